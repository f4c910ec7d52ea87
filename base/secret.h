/*
 * Secrets: memory that is locked, left out of core dumps, guarded and wiped (sodium_malloc).
 *
 * A secret cannot be printed or compared but in constant time. secret_new() fails when memory
 * cannot be locked, unless secret_allow_unlocked() was called first (and the user was told).
 *
 *     struct secret *k;
 *     r = secret_new(32, &k);        // zeroed
 *     randombytes / read into secret_bytes(k)
 *     secret_free(k);                // NULL-safe, wipes
 *
 * secret_init() once at start, before any thread. Threads: any; a secret itself is not locked.
 */
#ifndef CACHET_BASE_SECRET_H
#define CACHET_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct secret;

/*
 * Starts libsodium; the process is made not dumpable, without core files and without new
 * privileges. `may_mount` leaves out no_new_privs, which would stop the setuid mount helper.
 */
int secret_init(bool may_mount) MUST_CHECK;
void secret_allow_unlocked(void);

int secret_new(size_t len, struct secret **out) MUST_CHECK;
int secret_new_random(size_t len, struct secret **out) MUST_CHECK;
/* Copies `len` bytes; the caller wipes its own copy (secret_wipe). */
int secret_new_copy(const void *data, size_t len, struct secret **out) MUST_CHECK;
void secret_free(struct secret *s);
void secret_freep(struct secret **s);
#define _cleanup_secret_ _cleanup_(secret_freep)

uint8_t *secret_bytes(struct secret *s);
const uint8_t *secret_cbytes(const struct secret *s);
size_t secret_len(const struct secret *s);

/* Constant time for equal lengths. */
bool secret_equal(const struct secret *a, const struct secret *b);
bool secret_equal_bytes(const void *a, const void *b, size_t len);

/* Wipes ordinary memory that held a secret for a moment. */
void secret_wipe(void *p, size_t len);
/* The vector registers of the calling thread, which hold what it copied or ciphered last. */
void secret_wipe_registers(void);
/* What the calling thread's calls have left on its stack. For a thread that ends: the C library
 * keeps its stack for another. */
void secret_wipe_stack(void);

/* `len` random bytes from the system. */
void secret_random(void *out, size_t len);

#endif
