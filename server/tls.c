#include "server/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"

#define PEM_MAX (256u << 10)

struct tls {
	_Atomic(struct tls_pair *) now;
};

struct pem {
	gnutls_datum_t cert, key;
};

static int read_file(const char *path, gnutls_datum_t *out)
{
	char *text;
	size_t len;
	int r = io_read_file(AT_FDCWD, path, PEM_MAX, &text, &len);

	if (!r)
		*out = (gnutls_datum_t){ .data = (unsigned char *)text, .size = (unsigned)len };
	return r;
}

static void pem_done(struct pem *p)
{
	if (p->key.data)
		secret_wipe(p->key.data, p->key.size);
	free(p->key.data);
	free(p->cert.data);
}

/* GnuTLS compares the two only in a credentials structure. */
static bool belong_together(const struct pem *p)
{
	gnutls_certificate_credentials_t both;
	bool ok;

	if (gnutls_certificate_allocate_credentials(&both))
		return false;
	ok = !gnutls_certificate_set_x509_key_mem(both, &p->cert, &p->key, GNUTLS_X509_FMT_PEM);
	gnutls_certificate_free_credentials(both);
	return ok;
}

static void free_pair(struct tls_pair *pair)
{
	for (unsigned i = 0; i < pair->length; i++)
		gnutls_pcert_deinit(&pair->chain[i]);
	if (pair->key)
		gnutls_privkey_deinit(pair->key);
	free(pair);
}

static struct tls_pair *new_pair(const struct pem *p)
{
	struct tls_pair *pair = belong_together(p) ? calloc(1, sizeof(*pair)) : NULL;
	unsigned length = TLS_CHAIN_MAX;

	if (!pair)
		return NULL;
	if (!gnutls_pcert_list_import_x509_raw(
		    pair->chain, &length, &p->cert, GNUTLS_X509_FMT_PEM, 0))
		pair->length = length;
	if (!pair->length || gnutls_privkey_init(&pair->key) ||
		gnutls_privkey_import_x509_raw(pair->key, &p->key, GNUTLS_X509_FMT_PEM, NULL, 0)) {
		free_pair(pair);
		return NULL;
	}
	return pair;
}

static int load(const char *cert, const char *key, struct tls_pair **out)
{
	struct pem p = { 0 };
	int r = read_file(cert, &p.cert);

	if (!r)
		r = read_file(key, &p.key);
	if (!r) {
		*out = new_pair(&p);
		r = *out ? 0 : CE_FORMAT;
	}
	pem_done(&p);
	return r;
}

int server_tls_load(struct tls **t, const char *cert, const char *key, char **error)
{
	struct tls_pair *pair;
	int r = load(cert, key, &pair);

	if (!r && !*t) {
		*t = calloc(1, sizeof(**t));
		if (!*t) {
			free_pair(pair);
			r = -ENOMEM;
		}
	}
	if (r) {
		(void)!bytes_print(error, "cannot load the certificate and its key: %s",
			r == CE_FORMAT ? "they are not PEM, or do not belong together"
				       : error_text(r));
		return r;
	}
	pair->older = atomic_load(&(*t)->now);
	atomic_store(&(*t)->now, pair);
	return 0;
}

const struct tls_pair *server_tls_now(const struct tls *t)
{
	return atomic_load(&t->now);
}

void server_tls_free(struct tls *t)
{
	struct tls_pair *pair = t ? atomic_load(&t->now) : NULL;

	while (pair) {
		struct tls_pair *older = pair->older;

		free_pair(pair);
		pair = older;
	}
	free(t);
}
