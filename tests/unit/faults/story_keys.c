/* Stories of keys: enrolment at a server, rotation, rekey, lock; and of bundles. */
#include "stories.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/macros.h"
#include "cache/rekey.h"
#include "crypto/bundle.h"

#include "../enrol_server.h"

/* --- enrolment --- */

static void prepare_enrolment(struct told *t)
{
	enrol_server_start();
	t->link = &enrol_server_link;
	snprintf(t->source, sizeof(t->source), "server:file:%s/live/key", t->top);
}

static int tell_enrolment(struct told *t)
{
	char *error = NULL;
	int r;

	if (access(t->dir, F_OK) || told_open(t)) {
		TRY(told_create(t));
		TRY(told_open(t));
	}
	TRY(told_store(t));
	TRY(told_put(t, 0, 300, true));
	r = volume_renew_keys(t->v, &enrol_server_link, true, &error);
	free(error);
	TRY(r);
	r = volume_check_device(t->v, &enrol_server_link, &error);
	free(error);
	TRY(r);
	return told_put(t, 1, 300, true);
}

const struct story story_enrolment = { .name = "enrolment",
	.prepare = prepare_enrolment,
	.tell = tell_enrolment,
	.from_nothing = true };

/* --- rekey --- */

static void prepare_rekey(struct told *t)
{
	assert_int_equal(told_put(t, 0, 100000, true), 0);
	assert_int_equal(told_put(t, 1, 300, true), 0);
	assert_int_equal(told_origin(t, 5, 5000), 0);
}

static int tell_rekey(struct told *t)
{
	struct rekey_status s;
	char *error = NULL;
	int r = 0;

	TRY(told_open(t));
	TRY(told_store(t));
	rekey_status(t->v, &s);
	if (!s.active)
		r = rekey_start(t->v, false, &error);
	free(error);
	TRY(r);
	do {
		rekey_wait(t->v, 20);
		rekey_status(t->v, &s);
		if (s.active && s.code && s.code != -EAGAIN)
			return told_failed(t, s.code, "rekey");
	} while (s.active);
	return told_put(t, 2, 300, true);
}

const struct story story_rekey = {
	.name = "rekey", .prepare = prepare_rekey, .tell = tell_rekey, .closed = true
};

/* --- lock --- */

static int lock_and_unlock(struct told *t)
{
	const struct volume_options o = { .dir = t->dir, .key_source = t->source, .host = "test" };
	char *error = NULL;
	int locked = volume_lock(t->v), r;

	volume_forget();
	r = volume_unlock(t->v, &o, &error);
	free(error);
	return r ? r : locked;
}

static int tell_lock(struct told *t)
{
	struct state s;
	struct file *f;
	int r;

	TRY(told_open(t));
	TRY(told_store(t));
	TRY(told_make(t, 0));
	TRY(told_file(t, 0, &f));
	s = told_state(t, 30000);
	told_begin(t, 0, &s);
	t->files[0].split = true;
	r = file_size(f) > s.size ? file_truncate(f, s.size) : 0;
	if (!r)
		r = told_write(f, &s, 0, 8);
	if (!r) {
		r = lock_and_unlock(t);
		if (r) { /* it stays locked, or what was written did */
			file_unref(f, true);
			told_close(t);
			return told_failed(t, r, "lock, unlock");
		}
		r = file_commit(f);
	}
	file_unref(f, true);
	TRY(r);
	told_end(t, 0);
	return told_put(t, 1, 300, false);
}

const struct story story_lock = { .name = "lock", .tell = tell_lock, .closed = true };

/* --- bundles --- */

static struct {
	uint8_t bytes[200000];
	size_t len, at;
} bundle;

static int put_bytes(void *arg, const void *data, size_t len)
{
	if (bundle.len + len > sizeof(bundle.bytes))
		return -ENOSPC;
	memcpy(bundle.bytes + bundle.len, data, len);
	bundle.len += len;
	return 0;
}

static ssize_t get_bytes(void *arg, void *buf, size_t len)
{
	size_t n = MIN_OF(len, bundle.len - bundle.at);

	memcpy(buf, bundle.bytes + bundle.at, n);
	bundle.at += n;
	return (ssize_t)n;
}

static int write_bundle(const uint8_t *key, const uint8_t *content, size_t len)
{
	const struct bundle_sink sink = { put_bytes, NULL };
	struct bundle_writer *w;
	int r = bundle_writer_new(key, BUNDLE_FILE, &sink, &w);

	if (r)
		return r;
	r = bundle_write(w, content, len);
	if (!r)
		r = bundle_finish(w);
	bundle_writer_free(w);
	return r;
}

static int read_bundle(struct told *t, const uint8_t *key, const uint8_t *content, size_t len)
{
	const struct bundle_source source = { get_bytes, NULL };
	struct bundle_reader *r;
	uint8_t buf[30000];
	size_t at = 0, n;
	int e = bundle_reader_new(key, &source, &r);

	if (e)
		return e;
	while (!(e = bundle_read(r, buf, sizeof(buf), &n)) && n) {
		t->wrong = t->wrong || at + n > len || memcmp(buf, content + at, n);
		at += n;
	}
	bundle_reader_free(r);
	t->wrong = t->wrong || (!e && at != len);
	return e;
}

static int tell_bundle(struct told *t)
{
	static const uint8_t key[BUNDLE_KEY_LEN] = { 7 };
	static uint8_t content[150000];

	bundle.len = bundle.at = 0;
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i >> 8 ^ i);
	TRY(write_bundle(key, content, sizeof(content)));
	t->wrong = t->wrong || memmem(bundle.bytes, bundle.len, content + 1000, 64);
	return read_bundle(t, key, content, sizeof(content));
}

const struct story story_bundle = { .name = "bundle", .tell = tell_bundle };
