/*
 * The index of a volume that is being opened; when it is gone or beyond repair, a new one with what
 * unsent.log knows (unsent_restore.h). Without a log that opens nothing is touched, and the user is
 * told what is wrong.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/logged.h"
#include "cache/quarantine.h"
#include "cache/setup_priv.h"
#include "cache/unsent.h"
#include "cache/volume_priv.h"

static int index_error(const struct volume *v, int r, char **error)
{
	switch (r) {
	case CE_WRONG_KEY:
		/* The keyring has proved the user's key, so it is not that. */
		return setup_fail(error, CE_TAMPER,
			"%s/" DB_FILE " does not open with the key in " KEYRING_FILE
			": it is damaged, or they do not belong together; nothing was changed: put "
			"copies of both back",
			v->dir);
	case CE_FORMAT:
		return setup_fail(error, r,
			"%s/" DB_FILE " is not an index or that of a newer cachet; nothing was "
			"changed: use the newer version",
			v->dir);
	case CE_INUSE:
		return setup_fail(error, r, "%s: another process has this volume open", v->dir);
	case CE_TAMPER:
	case CE_CORRUPT:
		return setup_fail(error, r,
			"%s/" DB_FILE " is damaged (%s); nothing was deleted: keep a copy of the "
			"directory, then make a new volume and fill it from the origin",
			v->dir, error_text(r));
	case -ENOENT:
		return setup_fail(
			error, r, "%s/" DB_FILE " is missing: put a copy of it back", v->dir);
	}
	return r;
}

static int open_db(struct volume *v, const struct secret *key, bool create, struct db_recovery *rec)
{
	const struct db_options o = {
		.dir = v->dir,
		.key = key,
		.create = create,
		.before_sync = durable_before_sync,
		.before_sync_arg = v,
		.wal_grown = keeper_wal_grown,
		.wal_grown_arg = v,
		.wal_mark_bytes = space_wal_mark(v),
		/* Room for what comes until the keeper has emptied it. */
		.log_bytes = space_wal_mark(v) / 4 * 5,
		.op_changed = unsent_op_changed,
		.before_commit = unsent_before_commit,
		.ended = unsent_ended,
		.journal_arg = v,
	};

	memset(rec, 0, sizeof(*rec));
	return db_open(&o, &v->db, rec);
}

static int note_bad_log(struct volume *v)
{
	int r = db_begin(v->db);

	if (r)
		return r;
	r = event_append(v->db, clock_wall_ns(), "tamper", "{\"file\":\"unsent.log\"}");
	if (r)
		db_rollback(v->db);
	else
		r = db_commit(v->db);
	return r;
}

/* CE_STALE: the log tells of work that the index had and does not have any more. */
static int check_age(struct volume *v, const struct db_recovery *rec)
{
	bool ahead = false;
	int r = unsent_ahead(v, &ahead);

	if (r == -ENOENT)
		return 0;
	if (r == CE_TAMPER || r == CE_FORMAT || r == CE_CORRUPT)
		return note_bad_log(v);
	/* One that was just made anew is what followed from the loss. */
	return r ? r : ahead || (rec->durable_lost && !v->index_lost) ? CE_STALE : 0;
}

static int bring_up(struct volume *v, const struct secret *key)
{
	struct db_recovery rec;
	int r = open_db(v, key, false, &rec);

	if (r)
		return r;
	v->wal_damaged = rec.wal_damaged;
	r = check_age(v, &rec);
	if (!r)
		r = volume_load_state(v);
	if (!r)
		r = recover_run(v);
	return r ? r : db_settle_loss(v->db);
}

/* What an event says of an index that is given up; NULL: it is not. */
static const char *verdict(int r)
{
	switch (r) {
	case -ENOENT:
		return "missing";
	case CE_TAMPER:
	case CE_WRONG_KEY: /* the log proves that the key is right */
	case CE_CORRUPT:
		return "damaged";
	case CE_STALE:
		return "old";
	}
	return NULL;
}

static int restore(
	struct volume *v, const struct secret *key, struct unsent_restore *u, const char *why)
{
	struct db_recovery rec;
	int r;

	db_close(v->db);
	v->db = NULL;
	r = unsent_restore_aside(v, u);
	if (!r)
		r = open_db(v, key, true, &rec);
	if (!r)
		r = unsent_restore_rows(v, u, why, &v->restored);
	if (r)
		return r;
	db_close(v->db);
	v->db = NULL;
	v->index_lost = true;
	return bring_up(v, key);
}

static int rebuild(struct volume *v, const struct secret *key, int because, char **error)
{
	struct unsent_restore *u = NULL;
	const char *why = verdict(because);
	int r = why ? unsent_restore_load(v, &u) : because;

	if (!u)
		return index_error(v, because, error);
	r = restore(v, key, u, why);
	unsent_restore_free(u);
	return r ? index_error(v, r, error) : 0;
}

/* The newest key of the index, and while a rekey is under way the one before. */
struct keys {
	struct secret *key, *old;
};

static void keys_done(struct keys *k)
{
	secret_free(k->key);
	secret_free(k->old);
}

static int get_old(struct volume *v, struct secret **out)
{
	struct keyring_entry_info e;
	uint64_t epoch = 0;

	for (size_t i = 0; !keyring_entry(v->keyring, i, &e); i++)
		if (!strcmp(e.purpose, KEYRING_PURPOSE_INDEX) && e.old)
			epoch = MAX_OF(epoch, e.epoch);
	return epoch ? keyring_get_epoch(v->keyring, KEYRING_PURPOSE_INDEX, "", epoch, out) : 0;
}

static int get_keys(struct volume *v, struct keys *out, char **error)
{
	int r = keyring_get(v->keyring, KEYRING_PURPOSE_INDEX, "", &out->key);

	if (!r)
		r = get_old(v, &out->old);
	if (r)
		return setup_fail(error, r,
			"%s/" KEYRING_FILE
			" is damaged (%s%s); nothing was changed: put a copy of it back",
			v->dir, error_text(r),
			r == CE_TAMPER ? ": the index key fails at its tag or its AAD" : "");
	return unsent_set_key(v, out->key, out->old);
}

/* A rekey was cut short before the index had its turn: the log goes with the index. */
static int use_old(struct volume *v, struct keys *k)
{
	struct secret *newest = k->key;

	v->index_key_is_old = true;
	k->key = k->old;
	k->old = newest;
	return unsent_set_key(v, k->key, newest);
}

static int bring_up_either(struct volume *v, struct keys *k,
	int (*how)(struct volume *v, const struct secret *key))
{
	int r = how(v, k->key);

	v->index_key_is_old = false;
	if (r != CE_WRONG_KEY || !k->old)
		return r;
	r = use_old(v, k);
	return r ? r : how(v, k->key);
}

static int reopen(struct volume *v, const struct secret *key)
{
	struct db_recovery rec;

	return open_db(v, key, false, &rec);
}

int volume_index_reopen(struct volume *v, char **error)
{
	_cleanup_(keys_done) struct keys k = { NULL };
	int r = get_keys(v, &k, error);

	return r ? r : index_error(v, bring_up_either(v, &k, reopen), error);
}

int volume_index_open(struct volume *v, char **error)
{
	_cleanup_(keys_done) struct keys k = { NULL };
	int r = get_keys(v, &k, error);

	if (!r)
		r = logged_load(v, k.key);
	if (!r && k.old)
		r = logged_load(v, k.old);
	if (r)
		return r;
	r = bring_up_either(v, &k, bring_up);
	/* An error of the disk that passes is not damage. */
	if (r && r != CE_STALE && verdict(r)) {
		db_close(v->db);
		v->db = NULL;
		r = bring_up(v, k.key);
	}
	if (r)
		r = rebuild(v, k.key, r, error);
	if (!r)
		v->space.aside = quarantine_bytes(v);
	return r;
}
