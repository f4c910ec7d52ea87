/*
 * Programs that must not download (thumbnailers, indexers): what is here they read like anybody,
 * for what is not they get EHOSTUNREACH at once, as without a network. They are told by the name of
 * the process or of its executable. This keeps the well-meaning off: who wants to read, calls
 * himself otherwise.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs_priv.h"

#define COMM_MAX 15 /* the kernel keeps no more of a name */

static bool is_listed(const char *list, const char *name, size_t most)
{
	for (const char *at = list; *at; at += strcspn(at, ", "), at += strspn(at, ", ")) {
		size_t len = strcspn(at, ", ");

		if (!len)
			continue;
		if (strlen(name) == MIN_OF(len, most) && !strncmp(at, name, MIN_OF(len, most)))
			return true;
	}
	return false;
}

static bool read_name(pid_t pid, char *name, size_t size)
{
	char path[48];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fgets(name, (int)size, f) != NULL;
	fclose(f);
	if (ok)
		name[strcspn(name, "\n")] = 0;
	return ok;
}

static bool read_program(pid_t pid, char *path, size_t size)
{
	char link[48];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
	n = readlink(link, path, size - 1);
	if (n < 0)
		return false;
	path[n] = 0;
	return true;
}

bool refuse_download(fuse_req_t req)
{
	const char *list = fs_of(req)->no_download, *slash;
	pid_t pid = fuse_req_ctx(req)->pid;
	char text[4096];

	if (!list || pid <= 0)
		return false;
	if (read_name(pid, text, sizeof(text)) && is_listed(list, text, COMM_MAX))
		return true;
	if (!read_program(pid, text, sizeof(text)))
		return false;
	slash = strrchr(text, '/');
	return is_listed(list, slash ? slash + 1 : text, sizeof(text));
}
