#include "lib/priv.h"

#include <cap-ng.h>
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

/* What no daemon of ours has use for once it serves. */
static const int never[] = {
	SCMP_SYS(acct),
	SCMP_SYS(add_key),
	SCMP_SYS(adjtimex),
	SCMP_SYS(chroot),
	SCMP_SYS(clock_settime),
	SCMP_SYS(delete_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(init_module),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(kexec_load),
	SCMP_SYS(keyctl),
	SCMP_SYS(mount),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(pivot_root),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(ptrace),
	SCMP_SYS(quotactl),
	SCMP_SYS(reboot),
	SCMP_SYS(request_key),
	SCMP_SYS(setns),
	SCMP_SYS(settimeofday),
	SCMP_SYS(swapoff),
	SCMP_SYS(swapon),
	SCMP_SYS(umount2),
	SCMP_SYS(unshare),
	SCMP_SYS(uselib),
	SCMP_SYS(userfaultfd),
};

/*
 * Capabilities belong to threads, and capset() speaks for the caller alone; libraries may have
 * started others by now (DPDK's lcores among them).  So each of them is sent a signal whose handler
 * does the same, as glibc does for setuid().
 */
static struct __user_cap_data_struct thread_caps[_LINUX_CAPABILITY_U32S_3];
static _Atomic int threads_done, threads_failed;

static void
on_thread_signal(int number)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	int saved_errno = errno;

	(void)number;
	if (syscall(SYS_capset, &header, thread_caps) != 0)
		atomic_fetch_add(&threads_failed, 1);
	atomic_fetch_add(&threads_done, 1);
	errno = saved_errno;
}

static int
drop_in_other_threads(const struct pk_priv *p, struct pk_diag *diag)
{
	struct sigaction action = { .sa_handler = on_thread_signal, .sa_flags = SA_RESTART },
	                 before;
	int number = SIGRTMAX - 1, sent = 0;
	struct dirent *e;
	DIR *tasks;

	memset(thread_caps, 0, sizeof(thread_caps));
	for (size_t i = 0; i < p->nb_keep; i++) {
		thread_caps[p->keep[i] / 32].effective |= 1u << p->keep[i] % 32;
		thread_caps[p->keep[i] / 32].permitted |= 1u << p->keep[i] % 32;
	}
	tasks = opendir("/proc/self/task");
	if (tasks == NULL || sigaction(number, &action, &before) != 0) {
		pk_diag_set(diag, "threads cannot be found: %s", strerror(errno));
		return -errno;
	}
	while ((e = readdir(tasks)) != NULL) {
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

		if (tid > 0 && tid != gettid() && syscall(SYS_tgkill, getpid(), tid, number) == 0)
			sent++;
	}
	closedir(tasks);
	for (unsigned int waits = 0; atomic_load(&threads_done) < sent && waits < 2000; waits++)
		usleep(1000);
	(void)sigaction(number, &before, NULL);
	if (atomic_load(&threads_done) < sent || atomic_load(&threads_failed) != 0) {
		pk_diag_set(diag, "capabilities cannot be dropped in all threads");
		return -EPERM;
	}
	return 0;
}

static int
filter(const struct pk_priv *p, struct pk_diag *diag)
{
	static const int exec[] = { SCMP_SYS(execve), SCMP_SYS(execveat) };
	static const int inet[] = { AF_INET, AF_INET6 };
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int rc = 0;

	if (ctx == NULL)
		return -ENOMEM;
	for (size_t i = 0; rc == 0 && i < PK_COUNT(never); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, never[i], 0);
	for (size_t i = 0; rc == 0 && p->no_exec && i < PK_COUNT(exec); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, exec[i], 0);
	for (size_t i = 0; rc == 0 && p->no_inet && i < PK_COUNT(inet); i++)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 1,
		    &(struct scmp_arg_cmp){
		        .arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)inet[i] });
	/* Threads that libraries have started already come along. */
	if (rc == 0)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (rc == 0)
		rc = seccomp_load(ctx);
	if (rc < 0)
		pk_diag_set(diag, "system calls cannot be restricted: %s", strerror(-rc));
	seccomp_release(ctx);
	return rc;
}

int
pk_priv_drop(const struct pk_priv *p, struct pk_diag *diag)
{
	const struct passwd *pw = NULL;
	bool holds;
	int rc;

	PK_ASSERT(p->nb_keep == 0 || p->keep != NULL);
	if (p->user != NULL && p->user[0] != '\0') {
		pw = getpwnam(p->user);
		if (pw == NULL) {
			pk_diag_set(diag, "user \"%s\" does not exist on this machine", p->user);
			return -ENOENT;
		}
	}
	capng_get_caps_process();
	holds = capng_have_capabilities(CAPNG_SELECT_CAPS) > CAPNG_NONE;
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < p->nb_keep; i++)
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
		    (unsigned int)p->keep[i]);
	if (pw != NULL && pw->pw_uid != geteuid()) {
		rc = capng_change_id(
		    (int)pw->pw_uid, (int)pw->pw_gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
		if (rc != 0) {
			pk_diag_set(
			    diag, "cannot become user \"%s\" (libcap-ng error %d)", p->user, rc);
			return -EPERM;
		}
	} else if (geteuid() == 0) {
		rc = capng_apply(CAPNG_SELECT_BOTH);
		if (rc != 0) {
			pk_diag_set(
			    diag, "capabilities cannot be dropped (libcap-ng error %d)", rc);
			return -EPERM;
		}
	} else if (holds) {
		/* Not root: the bounding set is not ours to change, what we hold is. */
		rc = capng_apply(CAPNG_SELECT_CAPS);
		if (rc != 0) {
			pk_diag_set(
			    diag, "capabilities cannot be dropped (libcap-ng error %d)", rc);
			return -EPERM;
		}
	}
	rc = drop_in_other_threads(p, diag);
	if (rc < 0)
		return rc;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
		pk_diag_set(diag, "privileges cannot be given up: %s", strerror(errno));
		return -errno;
	}
	return filter(p, diag);
}
