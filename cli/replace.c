#include "cli/replace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/volume.h"
#include "crypto/kdf.h"
#include "crypto/keysource.h"
#include "daemon/opening.h"
#include "sync/sync.h"

#define ID_BYTES 16
#define ASIDE_MAX 1000
#define FILE_SOURCE "file:"
#define LIST_SLICE_MS 500
#define LIST_MAX_MS 60000

bool replace_is_needed(const struct config *c)
{
	_cleanup_free_ char *dir = NULL;

	return !config_volume_dir(c, &dir) && volume_key_is_lost(dir, c->key_source);
}

/* The name of a configuration with this id other than `but`; NULL: none. The caller frees. */
static int find_by_id(const char *id, const char *but, char **out)
{
	char **names;
	size_t n;
	int r = config_names(&names, &n);

	if (r)
		return r;
	for (size_t i = 0; i < n && !*out; i++) {
		_cleanup_(config_freep) struct config *c = NULL;
		_cleanup_free_ char *why = NULL;

		if (strcmp(names[i], but) && !config_load(names[i], &c, &why) && !strcmp(c->id, id))
			*out = strdup(names[i]);
	}
	config_names_free(names, n);
	return 0;
}

static int free_name(const char *name, char **out)
{
	char **names;
	size_t n;
	int r = config_names(&names, &n);

	for (int k = 1; !r && !*out && k < ASIDE_MAX; k++) {
		char *candidate;
		bool taken = false;

		if (bytes_print(&candidate, "%s-aside-%d", name, k))
			return -ENOMEM;
		for (size_t i = 0; i < n; i++)
			taken = taken || !strcmp(names[i], candidate);
		if (taken)
			free(candidate);
		else
			*out = candidate;
	}
	if (!r)
		config_names_free(names, n);
	return r ? r : *out ? 0 : -EEXIST;
}

/* Where its key is looked for from now on: a key file gets a place of its own. */
static int aside_source(const struct config *c, const char *name, char **out)
{
	const char *local;

	(void)keysource_is_server(c->key_source, &local);
	if (strncmp(local, FILE_SOURCE, strlen(FILE_SOURCE)) != 0)
		*out = strdup(c->key_source);
	else if (bytes_print(out, "%s.%s", c->key_source, name))
		*out = NULL;
	return *out ? 0 : -ENOMEM;
}

static int set_aside(const struct config *c, char **name, char **error)
{
	struct config aside = *c;
	int r = find_by_id(c->id, c->name, name);

	if (r || *name) /* an earlier try was cut short */
		return r;
	r = free_name(c->name, name);
	aside.name = *name;
	aside.mountpoint = NULL;
	if (!r)
		r = aside_source(c, *name, &aside.key_source);
	if (r)
		return r;
	r = config_save(&aside, error);
	free(aside.key_source);
	return r ? r : FAILPOINT("replace-aside");
}

static int next_id(const char *id, char out[static 2 * ID_BYTES + 1])
{
	static const char label[] = "cachet/replace/";
	uint8_t digest[KDF_SHA256_LEN];
	char text[sizeof(label) + 64];
	int n = snprintf(text, sizeof(text), "%s%.32s", label, id);
	int r = kdf_sha256(text, (size_t)n, digest);

	if (!r)
		bytes_to_hex(digest, ID_BYTES, out);
	return r;
}

static int make(
	const struct config *c, const struct secret *token, struct secret **kek, char **error)
{
	_cleanup_(carry_freep) struct carry *carry = NULL;
	_cleanup_free_ char *dir = NULL;
	struct volume_create_options o = { .key_source = c->key_source,
		.origin = c->origin,
		.store = c->store,
		.token = token,
		.kek = kek };
	int r = opening_carry(c, &carry, error);

	if (!r)
		r = config_volume_dir(c, &dir);
	if (r)
		return r;
	if (carry)
		o.link = carry_link(carry);
	o.dir = dir;
	r = volume_create(&o, error);
	if (r != -EEXIST)
		return r;
	/* Made by a try that was cut short, and never in use: nothing pointed to it. */
	free(steal_ptr(error));
	r = volume_wipe(dir);
	return r ? r : volume_create(&o, error);
}

/* --- refilling --- */

static void note(struct volume *v, const char *detail)
{
	if (volume_event(v, "rehydrate", detail))
		log_warning("the event log does not have the refilling");
}

static void note_failure(struct volume *v, int code)
{
	char detail[160];

	snprintf(detail, sizeof(detail), "{\"result\":\"failed\",\"error\":\"%s\"}",
		error_text(code));
	note(v, detail);
}

static void show(struct volume *v)
{
	uint64_t n;

	if (isatty(STDERR_FILENO) && !volume_objects(v, &n))
		fprintf(stderr, "\rlisting: %llu files and directories ", (unsigned long long)n);
}

static int list(struct volume *v, struct sync *s)
{
	int64_t end_ms = clock_boot_ms() + LIST_MAX_MS;
	struct sync_status status;
	int r = sync_start(s);

	if (r)
		return r;
	do {
		r = sync_wait_listed(s, LIST_SLICE_MS, NULL);
		sync_status(s, &status);
		show(v);
	} while (r == -ETIMEDOUT && !status.last_error && clock_boot_ms() < end_ms);
	if (isatty(STDERR_FILENO))
		fputc('\n', stderr);
	sync_stop(s);
	return r;
}

/* What is not listed now is when it is mounted. */
static int refill(const struct config *c, const struct secret *kek, char **error)
{
	const struct opening_sync_options how = { 0 };
	struct volume *v;
	struct sync *s;
	int r = opening_volume(c, kek, OPENING_ASK, &v, error);

	if (r)
		return r;
	note(v, "{\"result\":\"begun\"}");
	r = opening_sync(c, v, &how, &s, error);
	if (!r) {
		int listed = list(v, s);

		if (listed)
			note_failure(v, listed);
		else
			note(v, "{\"result\":\"done\"}");
		sync_free(s);
	}
	volume_close(v);
	return r;
}

int replace_volume(struct config *c, const struct secret *token, char **aside, char **error)
{
	_cleanup_secret_ struct secret *kek = NULL;
	_cleanup_free_ char *taken = NULL;
	char id[2 * ID_BYTES + 1];
	int r = set_aside(c, aside, error);

	if (!r)
		r = next_id(c->id, id);
	if (!r)
		r = find_by_id(id, "", &taken);
	if (!r && taken)
		r = -EEXIST;
	if (r)
		return r;
	memcpy(c->id, id, sizeof(id));
	r = make(c, token, &kek, error);
	if (!r)
		r = FAILPOINT("replace-made");
	if (!r)
		r = refill(c, kek, error);
	if (!r)
		r = config_save(c, error);
	return r ? r : FAILPOINT("replace-done");
}
