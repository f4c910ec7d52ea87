/*
 * Entries that are older than what we know.
 *
 * The feed names each record at its latest state, so pages come in order. But a page that was on
 * its way while an operation of ours was answered shows the record as it was before; and an entry
 * that waited in `deferred` may have been overtaken; and a record in a refusal may be older than the
 * feed. Sequence numbers tell: those of answers, and of entries while there are operations that may
 * be answered, are remembered here, in a table by hash that is lost with the process, as pages and
 * answers on their way are.
 */
#include "cache/remote_priv.h"

#include <errno.h>
#include <string.h>

static struct volume_acked *slot_of(
	struct volume *v, uint64_t store, const char *rid, uint64_t *hash)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ store;

	for (; *rid; rid++)
		h = (h ^ (uint8_t)*rid) * UINT64_C(0x100000001b3);
	*hash = h ? h : 1;
	return &v->acked[(h ^ h >> 32) % VOLUME_ACKED_MAX];
}

void remote_stale_note(struct volume *v, uint64_t store, const char *rid, uint64_t seq)
{
	uint64_t hash;
	struct volume_acked *a = slot_of(v, store, rid, &hash);

	if (a->hash == hash && a->seq >= seq)
		return;
	*a = (struct volume_acked){ hash, seq };
}

bool remote_stale_is(struct volume *v, uint64_t store, const struct remote_record *rec)
{
	uint64_t hash;
	const struct volume_acked *a = slot_of(v, store, rec->id, &hash);

	return a->hash == hash && rec->seq < a->seq;
}

int remote_stale_seq(struct volume *v, uint64_t store, const char *rid, uint64_t *seq)
{
	_cleanup_free_ char *entry = NULL;
	_cleanup_record_ struct remote_record rec = { 0 };
	int r = deferred_get(v->db, store, rid, &entry);

	if (!r)
		r = remote_record_load(entry, &rec);
	if (!r)
		*seq = rec.seq;
	return r;
}

int remote_stale_newer(struct volume *v, uint64_t store, const char *rid, uint64_t seq, bool *out)
{
	uint64_t deferred = 0;
	int r = remote_stale_seq(v, store, rid, &deferred);

	if (r && r != -ENOENT)
		return r;
	*out = !r && deferred > seq;
	return 0;
}

int remote_stale_drop(struct volume *v, uint64_t store, const char *rid, uint64_t seq)
{
	uint64_t deferred;
	int r = remote_stale_seq(v, store, rid, &deferred);

	if (r || deferred > seq)
		return r == -ENOENT ? 0 : r;
	return deferred_delete(v->db, store, rid);
}
