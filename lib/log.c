#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static const char *log_program = "picket";
static _Atomic enum pk_log_level log_level = PK_LOG_NOTICE;
static int log_journal;

void
pk_log_init(const char *program, enum pk_log_level level)
{
	log_program = program;
	log_level = level;
	/* systemd says by JOURNAL_STREAM that stderr is the journal, which reads <N> as priority. */
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

void
pk_log_set_level(enum pk_log_level level)
{
	log_level = level;
}

enum pk_log_level
pk_log_get_level(void)
{
	return log_level;
}

void
pk_log(enum pk_log_level level, const char *fmt, ...)
{
	static const int priority[] = { 3, 4, 5, 6, 7 }; /* syslog(3) */
	char line[LINE_MAX_BYTES];
	int saved_errno = errno;
	va_list ap;
	int n, m;

	if (level > log_level)
		return;
	if (log_journal) {
		n = snprintf(line, sizeof(line), "<%d>%s: ", priority[level], log_program);
	} else {
		struct timespec ts;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &ts);
		gmtime_r(&ts.tv_sec, &tm);
		n = snprintf(line, sizeof(line),
		    "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s: ", tm.tm_year + 1900, tm.tm_mon + 1,
		    tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000,
		    log_program);
	}
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		m = 0;
	n = PK_MIN(n + m, (int)sizeof(line) - 2);
	/* Names come from files and peers: what could move a terminal's cursor is shown as '?'. */
	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	/* One write per line, so that lines of several threads do not mix. */
	(void)!write(
	    STDERR_FILENO, line, (size_t)n); /* on failure there is nowhere to complain to */
	errno = saved_errno;
}

int
pk_log_limit(struct pk_log_limit *limit, uint64_t now_ns, uint32_t *suppressed)
{
	uint64_t start = PK_MAX(limit->full_at_ns, now_ns);

	if (start - now_ns > limit->interval_ns * (limit->burst - 1)) {
		limit->suppressed++;
		return 0;
	}
	limit->full_at_ns = start + limit->interval_ns;
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	return 1;
}
