#include "daemon/background.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"

int background_open_log(const char *path, size_t max, int *fd)
{
	_cleanup_fd_ int log =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
	struct stat st;

	if (log < 0 || fstat(log, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return CE_USAGE;
	if ((size_t)st.st_size > max && ftruncate(log, 0) < 0)
		return -errno;
	*fd = steal_fd(&log);
	return 0;
}

int background_use_log(int fd, bool leave_terminal)
{
	if (dup2(fd, STDERR_FILENO) < 0)
		return -errno;
	if (leave_terminal && dup2(fd, STDOUT_FILENO) < 0)
		return -errno;
	return 0;
}

int background_detach(void)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || chdir("/") < 0)
		return -errno;
	/* Until here the daemon was to end with whoever waits for it (cli/mount.c). */
	if (prctl(PR_SET_PDEATHSIG, 0) < 0)
		return -errno;
	/* Only a group leader cannot; then there is no terminal of another group to leave. */
	if (setsid() < 0 && errno != EPERM)
		return -errno;
	return 0;
}

void background_tell(int fd, enum exit_code code, const char *sentence)
{
	_cleanup_json_ struct json *o = json_new_object();
	_cleanup_free_ char *text = NULL;

	if (fd < 0)
		return;
	json_set_bool(o, "ok", !sentence);
	if (sentence) {
		json_set_string(o, "code", exit_code_name(code));
		json_set_string(o, "error", sentence);
	} else {
		json_set_u64(o, "pid", (uint64_t)getpid());
	}
	if (json_print(o, false, &text) || io_write_full(fd, text, strlen(text)) ||
		io_write_full(fd, "\n", 1))
		log_debug("nobody waited for the daemon to be ready");
	close(fd);
}
