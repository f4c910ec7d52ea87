/*
 * A fuzzer without libFuzzer: runs the inputs named, then seeded random ones and random changes of
 * those named.
 *
 *     fuzz_x [--rounds N] [--seed S] [FILE|DIRECTORY...]
 *
 * A failing input is written to fuzz-NAME-SEED-ROUND.bin in the working directory before it is run
 * to its end, and removed when it passes.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_MAX 4096
#define INPUTS_MAX 4096

static struct fuzz_bytes inputs[INPUTS_MAX];
static size_t n_inputs;
static uint64_t state;

static uint64_t next_random(void) /* splitmix64 */
{
	uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void add(const char *path)
{
	struct stat st;
	struct dirent *e;
	char below[4096];
	DIR *dir;

	FUZZ_CHECK(stat(path, &st) == 0);
	if (!S_ISDIR(st.st_mode)) {
		FUZZ_CHECK(n_inputs < INPUTS_MAX);
		inputs[n_inputs++] = fuzz_load(path);
		return;
	}
	dir = opendir(path);
	FUZZ_CHECK(dir);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
		add(below);
	}
	closedir(dir);
}

/* A copy of an input with a few bytes changed, or noise. */
static size_t make(uint8_t out[static INPUT_MAX])
{
	size_t len = next_random() % 64 + 1;

	if (n_inputs && next_random() % 4) {
		const struct fuzz_bytes *from = &inputs[next_random() % n_inputs];

		len = from->len < INPUT_MAX ? from->len : INPUT_MAX;
		memcpy(out, from->data, len);
		for (unsigned i = 0; len && i < 1 + next_random() % 4; i++)
			out[next_random() % len] = (uint8_t)next_random();
		return len;
	}
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)next_random();
	return len;
}

static void run(const char *name, uint64_t seed, unsigned long round)
{
	uint8_t data[INPUT_MAX];
	struct fuzz_bytes b = { data, make(data) };
	char path[256];

	snprintf(path, sizeof(path), "fuzz-%s-%llu-%lu.bin", name, (unsigned long long)seed, round);
	fuzz_store(path, &b);
	LLVMFuzzerTestOneInput(b.data, b.len);
	remove(path);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	unsigned long rounds = 0;
	uint64_t seed = 1;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			rounds = strtoul(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 10);
		else
			add(argv[i]);
	}
	for (size_t i = 0; i < n_inputs; i++)
		LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].len);
	state = seed;
	for (unsigned long i = 0; i < rounds; i++)
		run(name, seed, i);
	for (size_t i = 0; i < n_inputs; i++)
		free(inputs[i].data);
	printf("%s: %zu inputs, %lu rounds, seed %llu: no finding\n", name, n_inputs, rounds,
		(unsigned long long)seed);
	return 0;
}
