/*
 * What single calls of the engine cost, in microseconds of wall clock, median and 99th percentile:
 *
 *     TMPDIR=/somewhere/on/a/disk bench_engine
 *
 * commit     a transaction of one row, not synced: sealed and appended to the redo log
 * close      the commit of a file of 4 KiB that was written anew: sealed chunk, map, size, times,
 *            journal row, frame of unsent.log
 * fsync      the same, synced
 * stat       the attributes of a file of 10 GB, each chunk with its row
 */
#include "tree_fixture.h"

#include "base/clock.h"
#include "cache/file_priv.h"
#include "meta/store.h"

#define TIMES 4000
#define CHUNKS (UINT64_C(10000000000) / 65536)

static struct tree_fixture f;
static uint64_t large;
static double us[TIMES];

static void commit(unsigned i)
{
	ok(db_begin(f.v->db));
	ok(setting_set_u64(f.v->db, "bench", i));
	ok(db_commit(f.v->db));
}

static struct file *file;

static struct file *open_file(const char *name)
{
	struct tree_attr a = tf_attr(&f, name);
	struct file *opened;

	ok(file_open(f.v, a.object, a.version, true, &opened));
	return opened;
}

static void write_small(unsigned i)
{
	uint8_t bytes[4096];

	memset(bytes, (int)i, sizeof(bytes));
	file = open_file("small");
	ok(file_write(file, bytes, sizeof(bytes), 0));
}

static void close_small(unsigned i)
{
	ok(file_commit(file));
	file_unref(file, true);
}

static void fsync_small(unsigned i)
{
	ok(file_sync(file));
	file_unref(file, true);
}

static void nothing(unsigned i)
{
}

static void stat_large(unsigned i)
{
	struct tree_attr a;

	ok(tree_getattr(f.v, large, 1, &a));
}

static void make_large(void)
{
	struct content_chunk c = { .len = 65536 };
	struct content_map m;
	struct object_row o;

	ok(tf_write(&f, "large", "x"));
	large = tf_at(&f, "large");
	file = open_file("large");
	ok(file_write(file, "y", 1, 65536));
	ok(file_truncate(file, CHUNKS * 65536));
	ok(file_commit(file));
	file_unref(file, true);
	ok(db_begin(f.v->db));
	ok(object_get(f.v->db, large, &o));
	ok(content_map_get(f.v->db, o.map, &m));
	for (c.idx = 2; c.idx < CHUNKS; c.idx++) {
		c.slot = c.idx * 16;
		ok(content_chunk_put(f.v->db, m.id, &c));
	}
	ok(db_commit(f.v->db));
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(
	const char *name, void (*before)(unsigned i), void (*what)(unsigned i), unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		int64_t from;

		before(i);
		from = clock_boot_ns();
		what(i);
		us[i] = (double)(clock_boot_ns() - from) / 1000;
	}
	qsort(us, times, sizeof(*us), by_size);
	printf("%-8s %8.1f %8.1f\n", name, us[times / 2], us[times * 99 / 100]);
}

int main(void)
{
	tf_init(&f);
	ok(tf_create(&f, "small"));
	make_large();
	measure("commit", nothing, commit, TIMES);
	measure("close", write_small, close_small, TIMES);
	measure("fsync", write_small, fsync_small, 500);
	measure("stat", nothing, stat_large, 500);
	tf_done(&f);
	return 0;
}
