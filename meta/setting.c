#include <errno.h>

#include "base/bytes.h"
#include "base/error.h"
#include "meta/stmt_priv.h"
#include "meta/store.h"

int setting_set(struct db *db, const char *key, const void *value, size_t len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_SETTING_SET);

	stmt_bind_text(&s, key);
	stmt_bind_blob(&s, value ? value : "", len);
	return stmt_run(&s);
}

int setting_delete(struct db *db, const char *key)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_SETTING_DELETE);

	stmt_bind_text(&s, key);
	return stmt_run(&s);
}

int setting_get(struct db *db, const char *key, void *value, size_t max, size_t *len)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_SETTING_GET);
	_cleanup_free_ char *copy = NULL;
	size_t n = 0;
	int r;

	stmt_bind_text(&s, key);
	r = stmt_one(&s);
	if (r < 0)
		return r;
	copy = stmt_dup(&s, &n);
	if (!copy)
		return s.error ? s.error : CE_CORRUPT;
	if (n > max)
		return CE_TOO_LARGE;
	memcpy(value, copy, n);
	*len = n;
	return 0;
}

int setting_set_u64(struct db *db, const char *key, uint64_t value)
{
	uint8_t bytes[8];

	store_le64(bytes, value);
	return setting_set(db, key, bytes, sizeof(bytes));
}

int setting_get_u64(struct db *db, const char *key, uint64_t *out)
{
	uint8_t bytes[8];
	size_t len = 0;
	int r = setting_get(db, key, bytes, sizeof(bytes), &len);

	if (r < 0)
		return r == CE_TOO_LARGE ? CE_CORRUPT : r;
	if (len != sizeof(bytes))
		return CE_CORRUPT;
	*out = load_le64(bytes);
	return 0;
}
