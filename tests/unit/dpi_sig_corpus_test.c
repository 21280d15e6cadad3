/*
 * The training corpora of signatures, made by others: cases of rules and captures with the alerts they have
 * to raise, and a sample of published rules over several hundred captures.  They lie outside the tree:
 * PICKET_CORPORA, or ../shared/corpora beside the sources.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "ctl/pcapng.h"
#include "dpi/engine.h"
#include "tests/unit/corpora.h"
#include "tests/unit/test.h"

static char base[2048];

struct fired {
	unsigned int nb;
	uint32_t sid[4096], count[4096];
};

static void
on_alert(void *arg, const struct dpi_alert *a)
{
	struct fired *f = arg;
	unsigned int i;

	for (i = 0; i < f->nb && f->sid[i] != a->sig->sid; i++)
		;
	if (i == f->nb) {
		assert_true(i < PK_COUNT(f->sid));
		f->sid[f->nb] = a->sig->sid;
		f->count[f->nb++] = 0;
	}
	f->count[i]++;
}

static uint32_t
count_of(const struct fired *f, uint32_t sid)
{
	for (unsigned int i = 0; i < f->nb; i++)
		if (f->sid[i] == sid)
			return f->count[i];
	return 0;
}

static void
no_listener(void *arg, const char *keyword, const char *text)
{
	(void)arg;
	(void)keyword;
	(void)text;
}

static struct dpi_set *
load(const char *path)
{
	static const struct dpi_set_listener quiet = { no_listener, NULL };
	struct dpi_vars *vars;
	struct dpi_set *set;
	struct pk_diag diag;

	assert_int_equal(dpi_vars_create(&vars), 0);
	assert_int_equal(dpi_set_create(&set, vars), 0);
	if (dpi_set_load(set, path, &quiet, &diag) < 0 || dpi_set_finish(set, &diag) < 0)
		fail_msg("%s: %s", path, diag.text);
	return set;
}

/* Checksums as `auto` has them: a capture in which they are mostly wrong was taken before they were made. */
static bool
bad_checksums(const char *path)
{
	struct ctl_capture *c;
	struct ctl_packet p;
	unsigned int n = 0, bad = 0;

	if (ctl_capture_open(&c, path, NULL) < 0)
		return false;
	while (n < 1000 && ctl_capture_next(c, &p, NULL) > 0) {
		struct dpi_frame f = { .n = ++n };

		dpi_decode_link(&f, p.link_type, p.bytes, p.len);
		bad += f.bad_checksum;
	}
	ctl_capture_close(c);
	return bad * 10 > n;
}

static void
run(const struct dpi_set *set, struct dpi_engine_options o, const char *path, struct fired *f)
{
	struct dpi_engine *e;
	struct ctl_capture *c;
	struct ctl_packet p;
	struct pk_diag diag;
	uint64_t n = 0;

	f->nb = 0;
	o.detect.alert = on_alert;
	o.detect.arg = f;
	if (o.checksums == DPI_CHECKSUM_VERIFY && bad_checksums(path))
		o.checksums = DPI_CHECKSUM_IGNORE;
	assert_int_equal(dpi_engine_create(&e, set, &o), 0);
	if (ctl_capture_open(&c, path, &diag) == 0) {
		while (ctl_capture_next(c, &p, &diag) > 0)
			dpi_engine_packet(e, ++n, p.time_ns, p.link_type, p.bytes, p.len);
		ctl_capture_close(c);
	}
	dpi_engine_end(e);
	dpi_engine_destroy(e);
}

static void
case_options(json_t *c, struct dpi_engine_options *o)
{
	size_t i;
	json_t *arg;

	*o = (struct dpi_engine_options){ .depth = 1 << 20, .checksums = DPI_CHECKSUM_VERIFY };
	if (!json_is_true(json_object_get(c, "checksum_validation")))
		o->checksums = DPI_CHECKSUM_IGNORE;
	json_array_foreach(json_object_get(c, "args"), i, arg)
	{
		const char *a = json_string_value(arg);

		o->midstream |= strcmp(a, "stream.midstream=true") == 0;
		o->async |= strcmp(a, "stream.async-oneside=true") == 0;
		o->detect.ips |= strcmp(a, "--simulate-ips") == 0;
		if (strncmp(a, "stream.reassembly.depth=", 24) == 0)
			o->depth = strtoull(a + 24, NULL, 10);
	}
}

static bool
passes(json_t *c, struct fired *f)
{
	json_t *expected = json_object_get(c, "expect_alerts"), *value;
	struct dpi_engine_options o;
	struct dpi_set *set;
	const char *sid;
	char path[4096];
	unsigned int wanted = 0;
	bool ok = true;

	snprintf(path, sizeof(path), "%s/suricata-verify/%s", base,
	    json_string_value(json_object_get(c, "rules_file")));
	set = load(path);
	snprintf(path, sizeof(path), "%s/suricata-verify/%s", base,
	    json_string_value(json_object_get(c, "pcap")));
	case_options(c, &o);
	run(set, o, path, f);
	json_object_foreach(expected, sid, value)
	{
		bool want = json_integer_value(value) > 0;

		ok &= want == (count_of(f, (uint32_t)strtoul(sid, NULL, 10)) > 0);
		wanted += want;
	}
	dpi_set_destroy(set);
	return ok && f->nb == wanted;
}

static void
cases(void **state)
{
	static struct fired fired;
	unsigned int n = 0, good = 0, http = 0, http_good = 0, six = 0, six_good = 0;
	char path[4096], line[65536];
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/suricata-verify/cases.jsonl", base);
	f = fopen(path, "r");
	if (f == NULL) {
		printf("# skipped: no %s; set PICKET_CORPORA\n", path);
		skip();
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		json_t *c = json_loads(line, 0, NULL);
		const char *group = json_string_value(json_object_get(c, "group"));

		if (strcmp(json_string_value(json_object_get(c, "tier")), "core") == 0) {
			bool ok = passes(c, &fired), is_http = strcmp(group, "http-evader") == 0,
			     is_six = strcmp(group, "ipv6-evasion") == 0;

			n++;
			good += ok;
			http += is_http;
			http_good += is_http && ok;
			six += is_six;
			six_good += is_six && ok;
			if (!ok)
				print_message("not as expected: %s\n",
				    json_string_value(json_object_get(c, "case")));
		}
		json_decref(c);
	}
	fclose(f);
	print_message("%u of %u cases; HTTP evasions %u of %u, IPv6 %u of %u\n", good, n, http_good,
	    http, six_good, six);
	assert_int_equal(http_good, http);
	assert_int_equal(six_good, six);
	assert_true(good * 100 >= n * 98);
}

/* Where a capture of the list is: its corpus has a folder of its own. */
static void
capture_path(char *path, size_t size, const char *corpus, const char *name)
{
	snprintf(path, size, "%s/%.64s/%.256s", base, corpus, name);
	if (access(path, R_OK) != 0)
		snprintf(path, size, "%s/%.64s/pcap/%.256s", base, corpus, name);
}

static void
published(void **state)
{
	static struct fired fired;
	char path[4096], rules[] = "/tmp/picket-dpi-XXXXXX", command[8192], line[8192];
	unsigned int n = 0, same = 0, silent = 0, silent_good = 0;
	struct dpi_engine_options o = { .depth = 1 << 20, .checksums = DPI_CHECKSUM_VERIFY };
	struct dpi_set *set;
	FILE *f;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/etopen/et-open-25pct.rules.xz", base);
	if (access(path, R_OK) != 0) {
		printf("# skipped: no %s; set PICKET_CORPORA\n", path);
		skip();
	}
	fd = mkstemp(rules);
	assert_true(fd >= 0);
	close(fd);
	snprintf(command, sizeof(command), "xz -dc '%s' >%s", path, rules);
	if (system(command) != 0) {
		unlink(rules);
		printf("# skipped: xz cannot be run\n");
		skip();
	}
	set = load(rules);
	unlink(rules);
	print_message("%u rules loaded, %u refused\n", dpi_set_nb(set), dpi_set_nb_refused(set));
	assert_true(dpi_set_nb_refused(set) * 100 <= dpi_set_nb(set));
	snprintf(path, sizeof(path), "%s/etopen/expected.csv", base);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	while (fgets(line, sizeof(line), f) != NULL) {
		char *name = strchr(line, ','), *sids, *save = NULL;
		unsigned int wanted = 0;
		bool ok = true;

		*name++ = '\0';
		sids = strchr(name, ',');
		*sids++ = '\0';
		capture_path(path, sizeof(path), line, name);
		if (access(path, R_OK) != 0)
			continue;
		run(set, o, path, &fired);
		for (char *sid = strtok_r(sids, " ;|\r\n", &save); sid != NULL;
		     sid = strtok_r(NULL, " ;|\r\n", &save)) {
			ok &= count_of(&fired, (uint32_t)strtoul(sid, NULL, 10)) > 0;
			wanted++;
		}
		ok &= fired.nb == wanted;
		n++;
		same += ok;
		silent += wanted == 0;
		silent_good += wanted == 0 && ok;
		if (!ok)
			print_message("not as expected: %s\n", name);
	}
	fclose(f);
	dpi_set_destroy(set);
	print_message("%u of %u captures; %u of %u silent\n", same, n, silent_good, silent);
	assert_true(same * 100 >= n * 97);
	assert_true(silent_good * 100 >= silent * 99);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(cases), cmocka_unit_test(published) };

	(void)corpora_find("", base, sizeof(base));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
