/*
 * cachet-secret-service get|make NAME: prints a key of the desktop's key ring, 64 hexadecimal
 * digits. A program of its own: libsecret brings threads and memory that is not locked, which a
 * daemon that holds keys and forks had better not have.
 *
 * An item is found by schema and NAME. `make` makes one only where there is none, locked ones
 * included: storing over an item would destroy the key of a volume.
 * Exit status: 0, 1 usage, 2 there is none or it was not unlocked, 3 no service answers, 4 it
 * refuses. crypto/keysource_secret_service.c turns these into sentences; nothing is printed here.
 */
#include <libsecret/secret.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define KEY_LEN 32
#define HEX_LEN (2 * KEY_LEN)

enum { DONE, USAGE, NONE, NO_SERVICE, REFUSED };

static const SecretSchema schema = { .name = "io.cachet.Key",
	.flags = SECRET_SCHEMA_NONE,
	.attributes = { { "name", SECRET_SCHEMA_ATTRIBUTE_STRING } } };

/* On the bus there is nobody, or the service itself says no. */
static int judge(GError *error)
{
	int code = error->domain == SECRET_ERROR ? REFUSED : NO_SERVICE;

	g_error_free(error);
	return code;
}

static int get(const char *name)
{
	GError *error = NULL;
	gchar *text =
		secret_password_lookup_nonpageable_sync(&schema, NULL, &error, "name", name, NULL);
	size_t len;
	int code = DONE;

	if (error)
		return judge(error);
	if (!text)
		return NONE;
	len = strlen(text);
	if (write(STDOUT_FILENO, text, len) != (ssize_t)len)
		code = REFUSED;
	secret_password_free(text);
	return code;
}

/* DONE: there is one, locked or not. */
static int find(const char *name)
{
	GError *error = NULL;
	GList *items = secret_password_search_sync(
		&schema, SECRET_SEARCH_ALL, NULL, &error, "name", name, NULL);
	int code = error ? judge(error) : items ? DONE : NONE;

	g_list_free_full(items, g_object_unref);
	return code;
}

static int store_new(const char *name)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char key[KEY_LEN];
	char hex[HEX_LEN + 1] = "";
	GError *error = NULL;

	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		return REFUSED;
	for (size_t i = 0; i < KEY_LEN; i++) {
		hex[2 * i] = digits[key[i] >> 4];
		hex[2 * i + 1] = digits[key[i] & 15];
	}
	(void)secret_password_store_sync(&schema, SECRET_COLLECTION_DEFAULT, "cachet volume key",
		hex, NULL, &error, "name", name, NULL);
	explicit_bzero(key, sizeof(key));
	explicit_bzero(hex, sizeof(hex));
	return error ? judge(error) : DONE;
}

int main(int argc, char **argv)
{
	const struct rlimit no_core = { 0, 0 };
	int code;

	if (argc != 3 || (strcmp(argv[1], "get") != 0 && strcmp(argv[1], "make") != 0))
		return USAGE;
	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return REFUSED;
	if (!strcmp(argv[1], "make")) {
		code = find(argv[2]);
		if (code == NONE)
			code = store_new(argv[2]);
		if (code != DONE)
			return code;
	}
	return get(argv[2]);
}
