/*
 * A listing from nothing: mark and sweep.
 *
 * begin draws a new generation, which every record that is applied from then on gets in name.seen;
 * end removes the names known at the origin that did not get it. That a listing is under way is a
 * setting of its own: the store stays `listed` meanwhile, and after a restart the listing goes on
 * from its cursor.
 */
#include "cache/remote_listing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cache/remote_priv.h"
#include "cache/tree_priv.h"

#define BRAKE_MIN 10
#define BRAKE_PERCENT 20
#define BATCH 128

static void setting_key(uint64_t store, char out[static 40])
{
	snprintf(out, 40, "listing.%" PRIu64, store);
}

int remote_listing_under_way(struct volume *v, uint64_t store, uint64_t *generation)
{
	char key[40];
	int r;

	setting_key(store, key);
	r = setting_get_u64(v->db, key, generation);
	if (r == -ENOENT) {
		*generation = 0;
		return 0;
	}
	return r;
}

static int set_under_way(struct volume *v, uint64_t store, uint64_t generation)
{
	char key[40];

	setting_key(store, key);
	return setting_set_u64(v->db, key, generation);
}

struct purge {
	struct volume *v;
	uint64_t store;
};

/* The listing will say all of it again; what it does not say must not come back. */
static int purge_entry(void *arg, const char *rid, const char *entry)
{
	struct purge *p = arg;

	return deferred_delete(p->v->db, p->store, rid);
}

static int begin_txn(struct volume *v, uint64_t store)
{
	struct purge p = { v, store };
	struct store_row s;
	int r = store_get(v->db, store, &s);

	for (int reason = DEFERRED_PARENT; !r && reason <= DEFERRED_HELD; reason++)
		r = deferred_each(v->db, store, reason, NULL, purge_entry, &p);
	if (r)
		return r;
	/* The origin may have gone back: its numbers mean nothing any more. */
	memset(v->acked, 0, sizeof(v->acked));
	s.listing++;
	s.cursor[0] = 0;
	r = store_update(v->db, &s);
	return r ? r : set_under_way(v, store, s.listing);
}

int remote_listing_begin(struct volume *v, uint64_t store)
{
	int r = db_begin(v->db);

	return r ? r : tree_row_end(v, begin_txn(v, store));
}

/* Known at the origin, not seen, nothing unsent. */
static int find_gone(struct remote_pass *p, struct remote_ids *ids)
{
	_cleanup_free_ struct name_row *rows = calloc(BATCH, sizeof(*rows));
	uint64_t after = 0;
	size_t n = 0;
	int r;

	if (!rows)
		return -ENOMEM;
	do {
		r = name_unseen(p->v->db, p->store.id, p->store.listing, after, rows, BATCH, &n);
		for (size_t i = 0; r >= 0 && i < n; i++) {
			bool pending;

			r = fold_pending(p->v, p->store.id, rows[i].rid.text, &pending);
			if (!r && !pending)
				r = remote_ids_add(ids, rows[i].id);
			after = rows[i].id;
		}
	} while (r >= 0 && n == BATCH);
	return MIN_OF(r, 0);
}

static int defer_removal(struct remote_pass *p, const struct name_row *n)
{
	struct remote_record rec = { .deleted = true };

	memcpy(rec.id, n->rid.text, sizeof(rec.id));
	return remote_pass_defer(p, &rec, DEFERRED_BUSY);
}

/* Children mostly have higher ids than their directories: from the end; again as long as something
 * went. */
static int sweep(struct remote_pass *p, struct remote_ids *ids)
{
	size_t before;
	int r = 0;

	do {
		size_t kept = 0;

		before = ids->n;
		for (size_t i = ids->n; !r && i-- > 0;) {
			struct name_row n;
			bool done = true;

			r = name_get(p->v->db, ids->id[i], &n);
			if (!r)
				r = remote_remove_name(p, &n, &done);
			if (r == -ENOENT)
				r = 0;
			if (!done)
				ids->id[before - ++kept] = ids->id[i];
		}
		if (kept)
			memmove(ids->id, ids->id + before - kept, kept * sizeof(*ids->id));
		ids->n = kept;
	} while (!r && ids->n && ids->n < before);
	for (size_t i = 0; !r && i < ids->n; i++) {
		struct name_row n;

		r = name_get(p->v->db, ids->id[i], &n);
		if (!r)
			r = defer_removal(p, &n);
	}
	return r;
}

static int end_txn(struct remote_pass *p, bool allow_deletes, struct remote_ids *ids)
{
	struct volume *v = p->v;
	struct store_row s;
	uint64_t all;
	int r = find_gone(p, ids);

	if (!r)
		r = name_count(v->db, p->store.id, &all);
	if (r)
		return r;
	if (!allow_deletes && ids->n > BRAKE_MIN && ids->n * 100 > all * BRAKE_PERCENT) {
		p->report.held = ids->n;
		return CE_HELD;
	}
	r = sweep(p, ids);
	if (!r)
		r = remote_pass_finish(p);
	if (!r)
		r = store_get(v->db, p->store.id, &s);
	s.listed = true;
	if (!r)
		r = store_update(v->db, &s);
	return r ? r : set_under_way(v, p->store.id, 0);
}

int remote_listing_end(
	struct volume *v, uint64_t store, bool allow_deletes, struct remote_report *report)
{
	struct remote_pass p = { 0 };
	struct remote_ids ids = { 0 };
	uint64_t generation = 0;
	int r = db_begin(v->db);

	if (r)
		return r;
	r = remote_pass_begin(&p, v, store);
	if (!r)
		r = remote_listing_under_way(v, store, &generation);
	if (!r && generation != p.store.listing)
		r = -EINVAL;
	if (!r)
		r = end_txn(&p, allow_deletes, &ids);
	free(ids.id);
	r = tree_row_end(v, r);
	remote_pass_end(&p, !r);
	if (!r)
		*report = p.report;
	else if (r == CE_HELD)
		*report = (struct remote_report){ .held = p.report.held };
	if (!r && p.any_ops)
		volume_tell_outbox(v);
	return r;
}
