/*
 * A key from a passphrase by Argon2id. Its parameters are not secret and stay in the keyring:
 * {driver: "passphrase", kdf: "argon2id", salt, ops, memKiB}. A keyring from elsewhere may ask for
 * any cost: more than MEM_KIB_MAX is refused, not tried.
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/error.h"
#include "crypto/kdf.h"

#define SALT_LEN 16
#define PARAM_MEMBERS 5

/* About a second on one core of a laptop (RFC 9106 section 4 advises at least 64 MiB). */
#define OPS 3u
#define MEM_KIB 262144u
#define OPS_MAX 64u
#define MEM_KIB_MAX 4194304u

struct params {
	uint8_t salt[SALT_LEN];
	uint64_t ops, mem_kib;
};

/* "", or "fd=N": -1 and N. */
static int parse_arg(const char *arg, int *fd)
{
	char *end;
	unsigned long n;

	*fd = -1;
	if (!*arg)
		return 0;
	if (strncmp(arg, "fd=", 3) != 0 || arg[3] < '0' || arg[3] > '9')
		return CE_USAGE;
	n = strtoul(arg + 3, &end, 10);
	if (*end || n > INT_MAX)
		return CE_USAGE;
	*fd = (int)n;
	return 0;
}

int keysource_passphrase_check(const char *arg, char **error)
{
	int fd;

	if (parse_arg(arg, &fd))
		return keysource_fail(error, CE_USAGE,
			"behind passphrase: there can be nothing, or "
			"fd=N with the number of an open file; the passphrase itself is never "
			"given there");
	return 0;
}

static int derive(const struct params *p, const struct secret *phrase, size_t len,
	struct secret **kek, char **error)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r;

	if (!len)
		return keysource_fail(error, CE_USAGE, "the passphrase is empty");
	r = secret_new(KEYSOURCE_KEY_LEN, &key);
	if (!r)
		r = kdf_argon2id((const char *)secret_cbytes(phrase), len, p->salt,
			(uint32_t)p->ops, (uint32_t)p->mem_kib, secret_bytes(key));
	if (r)
		return keysource_fail(
			error, r, "the key cannot be made from the passphrase (%s)", error_text(r));
	*kek = steal_ptr(&key);
	return 0;
}

static int ask_twice(struct secret **out, size_t *len, char **error)
{
	_cleanup_secret_ struct secret *first = NULL, *second = NULL;
	size_t first_len, second_len;
	int r;

	r = keysource_terminal_ask("New passphrase: ", &first, &first_len, error);
	if (!r)
		r = keysource_terminal_ask("Again: ", &second, &second_len, error);
	if (r)
		return r;
	if (first_len != second_len || !secret_equal(first, second))
		return keysource_fail(error, CE_USAGE, "the two passphrases are not the same");
	*out = steal_ptr(&first);
	*len = first_len;
	return 0;
}

static int params_to_json(const struct params *p, struct json **out)
{
	struct json *obj = json_new_object();

	if (!obj)
		return -ENOMEM;
	json_set_string(obj, "driver", "passphrase");
	json_set_string(obj, "kdf", "argon2id");
	json_set_bytes(obj, "salt", p->salt, sizeof(p->salt));
	json_set_u64(obj, "ops", p->ops);
	json_set_u64(obj, "memKiB", p->mem_kib);
	*out = obj;
	return 0;
}

int keysource_passphrase_create(
	const char *arg, struct secret **kek, struct json **params, char **error)
{
	struct params p = { .ops = OPS, .mem_kib = MEM_KIB };
	_cleanup_secret_ struct secret *phrase = NULL, *key = NULL;
	size_t len = 0;
	int fd, r;

	r = parse_arg(arg, &fd);
	if (!r)
		r = fd < 0 ? ask_twice(&phrase, &len, error)
			   : keysource_terminal_read_fd(fd, &phrase, &len, error);
	if (r)
		return r;
	secret_random(p.salt, sizeof(p.salt));
	r = derive(&p, phrase, len, &key, error);
	if (r)
		return r;
	r = params_to_json(&p, params);
	if (r)
		return keysource_fail(error, r, "no memory");
	*kek = steal_ptr(&key);
	return 0;
}

static int params_from_json(const struct json *obj, struct params *p)
{
	const char *driver, *kdf;
	int r;

	if (!obj || json_count(obj) != PARAM_MEMBERS)
		return CE_FORMAT;
	r = json_get_string(obj, "driver", &driver);
	if (!r)
		r = json_get_string(obj, "kdf", &kdf);
	if (!r)
		r = json_get_bytes(obj, "salt", p->salt, sizeof(p->salt));
	if (!r)
		r = json_get_u64(obj, "ops", &p->ops);
	if (!r)
		r = json_get_u64(obj, "memKiB", &p->mem_kib);
	if (r)
		return r;
	if (strcmp(driver, "passphrase") != 0 || strcmp(kdf, "argon2id") != 0)
		return CE_FORMAT;
	return p->ops > OPS_MAX || p->mem_kib > MEM_KIB_MAX ? CE_FORMAT : 0;
}

int keysource_passphrase_fetch(
	const char *arg, const struct json *params, struct secret **kek, char **error)
{
	_cleanup_secret_ struct secret *phrase = NULL;
	struct params p;
	size_t len = 0;
	int fd, r;

	r = params_from_json(params, &p);
	if (r)
		return keysource_fail(error, r,
			"the keyring has no usable parameters for a passphrase: it was made with "
			"another "
			"key source, or is damaged");
	r = parse_arg(arg, &fd);
	if (!r)
		r = fd < 0 ? keysource_terminal_ask("Passphrase: ", &phrase, &len, error)
			   : keysource_terminal_read_fd(fd, &phrase, &len, error);
	return r ? r : derive(&p, phrase, len, kek, error);
}
