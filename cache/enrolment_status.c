/* What is told about keys and device; never a key. */
#include "cache/enrolment.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cache/enrolment_priv.h"
#include "cache/volume_priv.h"
#include "crypto/kdf.h"
#include "crypto/keysource.h"

bool volume_needs_server(const char *key_source)
{
	const char *local;

	return keysource_is_server(key_source, &local);
}

void volume_keys_status(struct volume *v, struct volume_keys_status *out)
{
	struct enrolment *e = v->enrolment;
	uint8_t digest[KDF_SHA256_LEN];

	*out = (struct volume_keys_status){ .server = e != NULL };
	keys_lock(v);
	snprintf(out->kid, sizeof(out->kid), "%s", keyring_kid(v->keyring));
	if (e) {
		pthread_mutex_lock(&e->lock);
		strcpy(out->device_id, e->device->id);
		strcpy(out->dkid, e->device->dkid);
		out->rotation = e->device->rotation;
		out->lease_until_s = e->device->lease.held ? e->device->lease.until_s : 0;
		out->from_lease = e->from_lease;
		out->revoked = !e->device->priv;
		if (!kdf_sha256(e->device->pub, sizeof(e->device->pub), digest))
			bytes_to_hex(digest, sizeof(digest), out->pub_sha256);
		pthread_mutex_unlock(&e->lock);
	}
	keys_unlock(v);
}

struct key_names {
	const char *ref;
	char name[STORE_NAME_MAX + 1];
};

static int find_name(void *arg, const struct store_row *s)
{
	struct key_names *n = arg;

	if (strcmp(n->ref, s->ref) != 0)
		return 0;
	memcpy(n->name, s->name, sizeof(n->name));
	return 1;
}

int volume_keys_each(
	struct volume *v, int (*fn)(void *arg, const struct volume_key_info *k), void *arg)
{
	struct keyring_entry_info info;
	int r = 0;

	db_read(v->db);
	keys_lock(v);
	for (size_t i = 0; !r && !keyring_entry(v->keyring, i, &info); i++) {
		struct key_names n = { .ref = info.store };
		struct volume_key_info k = { .purpose = info.purpose,
			.store = n.name,
			.kid = info.kid,
			.epoch = info.epoch,
			.created_at_s = info.created_at_s };

		r = *info.store ? store_each(v->db, find_name, &n) : 0;
		if (r >= 0)
			r = fn(arg, &k);
	}
	keys_unlock(v);
	db_unlock(v->db);
	return r;
}
