/*
 * The server's certificate and its key, which can be exchanged while it serves.
 *
 *     server_tls_load(&t, cert, key, &error);     // at the start, and again at each reload
 *     libmicrohttpd takes server_tls_now(t) through a callback of http.c, at each handshake
 *     server_tls_free(t);
 *
 * A connection keeps what its handshake began with, so every pair that was ever loaded stays until
 * the end: a reload is rare and a pair small. Files that do not load, or do not belong together,
 * leave the pair before in force. The private key is GnuTLS's, outside of locked memory; the PEM
 * text it was read from is wiped.
 *
 * Threads: one loads at a time; server_tls_now() from any.
 */
#ifndef CACHET_SERVER_TLS_H
#define CACHET_SERVER_TLS_H

#include <gnutls/abstract.h>

#include "base/macros.h"

struct tls;

#define TLS_CHAIN_MAX 16

struct tls_pair {
	struct tls_pair *older;
	gnutls_pcert_st chain[TLS_CHAIN_MAX];
	unsigned length;
	gnutls_privkey_t key;
};

/* PEM files; makes *t when it is NULL. *error as in server.h. */
int server_tls_load(struct tls **t, const char *cert, const char *key, char **error) MUST_CHECK;
const struct tls_pair *server_tls_now(const struct tls *t);
void server_tls_free(struct tls *t);

#endif
