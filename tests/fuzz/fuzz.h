/*
 * What the fuzzers share. A fuzzer is one file with LLVMFuzzerTestOneInput(); it aborts when an
 * invariant is broken. With clang and -Dfuzz=true it links with libFuzzer (scripts/fuzz); always it
 * is also built with main.c, which runs inputs named on its command line and seeded random ones, as
 * a unit test.
 *
 * Most formats here are sealed: random bytes never get behind the tag. So an input is a list of
 * changes to valid files (fuzz_mutate), or the plaintext that the fuzzer seals itself.
 */
#ifndef CACHET_TESTS_FUZZ_H
#define CACHET_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fuzz_fail(__FILE__, __LINE__, #condition);                                 \
	} while (0)
_Noreturn void fuzz_fail(const char *file, int line, const char *what);

struct fuzz_bytes {
	uint8_t *data;
	size_t len;
};

/* A directory in memory, removed at exit; the same one for the whole process. */
const char *fuzz_dir(void);
int fuzz_dirfd(void);
/* Every file below it goes. */
void fuzz_clear(void);
struct fuzz_bytes fuzz_load(const char *path);
void fuzz_store(const char *path, const struct fuzz_bytes *b);

/* Takes bytes from the front of the input; zeros when it is used up. */
struct fuzz_input {
	const uint8_t *data;
	size_t len;
};
uint64_t fuzz_take(struct fuzz_input *in, unsigned bytes);

/* One change: flip, set, cut, zero a range, copy a range elsewhere, insert input, grow.
 * True if a byte is another than before. */
bool fuzz_mutate(struct fuzz_bytes *b, struct fuzz_input *in);
/* Stores `whole` with as many changes as the input has; true if it is not `whole` any more. */
bool fuzz_store_changed(const char *path, const struct fuzz_bytes *whole, struct fuzz_input *in);

#endif
