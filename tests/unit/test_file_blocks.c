/* Goal: a chunk of a large file is sealed in blocks of 8 KiB. A small read reads and opens its own
 * only; each is bound to its place, chunk and seal; chunks of one message, as volumes have them that
 * were made before there were blocks, are read as they are. */
#include "content_fixture.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "unit.h"

#define CHUNK (UINT32_C(1) << BLOB_SHIFT_LARGE)
#define BLOCKS (CHUNK / BLOB_BLOCK)
#define ALL ((1u << BLOCKS) - 1)
#define TAIL 9000
#define SIZE (20 * CHUNK + TAIL)

/* --- interposed: bytes that are read of blobs --- */

static size_t bytes_read;

ssize_t pread(int fd, void *buf, size_t n, off_t off)
{
	if (unit_is_blob(fd))
		bytes_read += n;
	return syscall(SYS_pread64, fd, buf, n, off);
}

struct one {
	struct content_fixture f;
	uint64_t object;
	struct file *file;
	char path[512];
};

static void open_it(struct one *t)
{
	t->file = cf_file(&t->f, t->object);
	cf_blob_path(&t->f, t->object, t->path, sizeof(t->path));
}

static void init(struct one *t, enum aead_alg alg)
{
	cf_paths(&t->f);
	t->f.alg = alg;
	cf_create(&t->f);
	cf_open(&t->f);
	cf_store(&t->f);
	t->object = cf_make(&t->f, SIZE, 3);
	ok(volume_sync(t->f.v));
	open_it(t);
}

/* Nothing of it stays in memory. */
static void again(struct one *t)
{
	file_unref(t->file, true);
	cf_reopen(&t->f);
	open_it(t);
	bytes_read = 0;
}

static void done(struct one *t)
{
	file_unref(t->file, true);
	cf_done(&t->f);
}

static struct content_chunk chunk_of(struct one *t, uint64_t idx)
{
	struct chunk_entry e;

	ok(chunkmap_get(&t->file->chunks, idx, &e));
	return e.c;
}

static void test_a_small_read_opens_its_blocks(void **state)
{
	struct one t;

	init(&t, AEAD_AES256GCM);
	again(&t);
	assert_true(cf_holds(t.file, 4096, 5 * CHUNK + 4096, 3));
	assert_int_equal(bytes_read, BLOB_BLOCK);
	assert_true(cf_holds(t.file, 100, 5 * CHUNK + 700, 3));
	assert_int_equal(bytes_read, BLOB_BLOCK);
	/* Somebody goes on in the chunk: he gets all of it. */
	assert_true(cf_holds(t.file, 4096, 5 * CHUNK + BLOB_BLOCK, 3));
	assert_int_equal(bytes_read, BLOB_BLOCK + CHUNK);
	assert_true(cf_holds(t.file, 4096, 5 * CHUNK, 3));
	assert_int_equal(bytes_read, BLOB_BLOCK + CHUNK);
	bytes_read = 0;
	assert_true(cf_holds(t.file, 2, 9 * CHUNK + BLOB_BLOCK - 1, 3));
	assert_int_equal(bytes_read, 2 * BLOB_BLOCK);
	bytes_read = 0;
	assert_true(cf_holds(t.file, 10, SIZE - 10, 3));
	assert_int_equal(bytes_read, TAIL - BLOB_BLOCK);
	done(&t);
}

static void test_how_many_blocks_a_chunk_has(void **state)
{
	static const struct {
		uint32_t tail;
		unsigned n;
	} cases[] = { { 1, 1 }, { 4097, 1 }, { 8192, 1 }, { 8193, 2 }, { 12289, 2 }, { 16384, 2 } };
	struct content_fixture f;

	cf_init(&f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct one t = { .f = f,
			.object = cf_make(&f, 8 * CHUNK + cases[i].tail, (uint32_t)i) };
		struct content_chunk c;

		t.file = cf_file(&f, t.object);
		c = chunk_of(&t, 8);
		assert_int_equal(c.len, cases[i].tail);
		assert_int_equal(c.n_tags, cases[i].n);
		if (c.n_tags > 1)
			assert_int_equal(c.nonce[11] % BLOCKS, 0);
		assert_int_equal(chunk_of(&t, 0).n_tags, BLOCKS);
		assert_true(cf_holds(t.file, 8 * CHUNK + cases[i].tail, 0, (uint32_t)i));
		file_unref(t.file, true);
	}
	cf_done(&f);
}

/* Where it stands in the blob. */
static uint64_t start_of(const struct content_chunk *c, unsigned block)
{
	return c->slot * BLOB_PAD + (uint64_t)block * BLOB_BLOCK;
}

static void flip(struct one *t, uint64_t at)
{
	int fd = open(t->path, O_RDWR);
	uint8_t b;

	assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
	b ^= 1u << at % 8;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
	close(fd);
}

static void exchange(struct one *t, uint64_t a, uint64_t b)
{
	uint8_t x[BLOB_BLOCK], y[BLOB_BLOCK];
	int fd = open(t->path, O_RDWR);

	assert_int_equal(pread(fd, x, sizeof(x), (off_t)a), sizeof(x));
	assert_int_equal(pread(fd, y, sizeof(y), (off_t)b), sizeof(y));
	assert_int_equal(pwrite(fd, y, sizeof(y), (off_t)a), sizeof(y));
	assert_int_equal(pwrite(fd, x, sizeof(x), (off_t)b), sizeof(x));
	close(fd);
}

/* Which blocks of the chunk open alone: a bit each. */
static unsigned opening(struct one *t, const struct content_chunk *c)
{
	uint8_t buf[CHUNK], want[CHUNK];
	unsigned open = 0;

	cf_pattern(want, c->len, c->idx << BLOB_SHIFT_LARGE, 3);
	for (unsigned i = 0; i < c->n_tags; i++) {
		uint32_t from = i * BLOB_BLOCK + 5, to = from + 7;
		int r = blob_open_part(t->file->blob, c, &from, &to, buf);

		assert_int_equal(from, i * BLOB_BLOCK);
		assert_int_equal(to, MIN_OF(from + BLOB_BLOCK, c->len));
		assert_true(!r || r == CE_TAMPER);
		open |= (unsigned)!r << i;
		if (r)
			memset(want + from, 0, to - from);
		assert_memory_equal(buf + from, want + from, to - from);
	}
	return open;
}

static void check_binding(enum aead_alg alg)
{
	struct content_chunk c, other, wrong;
	struct one t;
	uint8_t buf[CHUNK];

	init(&t, alg);
	c = chunk_of(&t, 4);
	other = chunk_of(&t, 7);
	assert_int_equal(opening(&t, &c), ALL);
	for (unsigned i = 0; i < BLOCKS; i++) {
		for (uint32_t at = 0; at < BLOB_BLOCK; at += 1021) {
			flip(&t, start_of(&c, i) + at);
			assert_int_equal(opening(&t, &c), ALL & ~(1u << i));
			assert_int_equal(blob_open(t.file->blob, &c, buf), CE_TAMPER);
			flip(&t, start_of(&c, i) + at);
		}
	}
	exchange(&t, start_of(&c, 0), start_of(&c, 1));
	assert_int_equal(opening(&t, &c), ALL & ~3u);
	exchange(&t, start_of(&c, 0), start_of(&c, 1));
	exchange(&t, start_of(&c, 1), start_of(&other, 1));
	assert_int_equal(opening(&t, &c), ALL & ~2u);
	assert_int_equal(opening(&t, &other), ALL & ~2u);
	exchange(&t, start_of(&c, 1), start_of(&other, 1));
	wrong = c;
	wrong.seq++;
	assert_int_equal(opening(&t, &wrong), 0);
	wrong = c;
	wrong.idx++;
	assert_int_equal(blob_open(t.file->blob, &wrong, buf), CE_TAMPER);
	/* Neither all as one message, nor a part or its first block as all of it. */
	wrong = c;
	wrong.n_tags = 1;
	assert_int_equal(blob_open(t.file->blob, &wrong, buf), CE_TAMPER);
	wrong.len = BLOB_BLOCK;
	assert_int_equal(blob_open(t.file->blob, &wrong, buf), CE_TAMPER);
	wrong.n_tags = BLOCKS;
	assert_int_equal(blob_open(t.file->blob, &wrong, buf), CE_CORRUPT);
	wrong.len = BLOB_BLOCK + 1;
	assert_int_equal(blob_open(t.file->blob, &wrong, buf), CE_TAMPER);
	wrong.n_tags = 0;
	assert_int_equal(blob_open(t.file->blob, &wrong, buf), CE_CORRUPT);
	assert_true(cf_holds(t.file, SIZE, 0, 3));
	done(&t);
}

static void test_each_block_is_bound(void **state)
{
	check_binding(AEAD_AES256GCM);
	check_binding(AEAD_XCHACHA20POLY1305);
}

/* A block of the seal before does not open in the same place. */
static void test_an_old_block_does_not_open(void **state)
{
	uint8_t old[BLOB_BLOCK];
	struct content_chunk c;
	struct one t;
	int fd;

	init(&t, AEAD_AES256GCM);
	c = chunk_of(&t, 4);
	fd = open(t.path, O_RDWR);
	assert_int_equal(pread(fd, old, sizeof(old), (off_t)start_of(&c, 1)), sizeof(old));
	cf_write(t.file, CHUNK, 4 * CHUNK, 3);
	ok(file_commit(t.file));
	ok(volume_sync(t.f.v));
	c = chunk_of(&t, 4);
	assert_int_equal(opening(&t, &c), ALL);
	assert_int_equal(pwrite(fd, old, sizeof(old), (off_t)start_of(&c, 1)), sizeof(old));
	close(fd);
	assert_int_equal(opening(&t, &c), ALL & ~2u);
	done(&t);
}

/* The chunk as it was sealed before there were blocks: one message, one tag. */
static void seal_as_before(struct one *t, struct content_chunk *c)
{
	static const char label[] = "cachet/chunk/v1";
	uint8_t aad[76], key[AEAD_KEY_LEN], buf[CHUNK];
	struct blob *b = t->file->blob;
	int fd = open(t->path, O_RDWR);

	memcpy(aad, label, 15);
	memcpy(aad + 15, b->store_ref, 16);
	memcpy(aad + 31, b->uuid, 16);
	store_le64(aad + 47, keys_epoch(b->keys, c->seq));
	store_le64(aad + 55, c->idx);
	store_le64(aad + 63, c->seq);
	store_le32(aad + 71, c->len);
	aad[75] = (uint8_t)b->alg;
	ok(keys_blob(b->keys, b->uuid, c->seq, key));
	aead_nonce(b->alg, c->nonce);
	cf_pattern(buf, c->len, c->idx << BLOB_SHIFT_LARGE, 3);
	c->n_tags = 1;
	ok(aead_seal(b->alg, key, c->nonce, aad, sizeof(aad), buf, c->len, buf, c->tags[0]));
	assert_int_equal(pwrite(fd, buf, c->len, (off_t)c->slot << 12), c->len);
	close(fd);
	ok(db_begin(t->f.v->db));
	ok(content_chunk_put(t->f.v->db, t->file->chunks.map, c));
	ok(db_commit(t->f.v->db));
}

static void test_chunks_of_before_are_read(void **state)
{
	struct content_chunk c;
	struct one t;

	init(&t, AEAD_AES256GCM);
	for (uint64_t idx = 0; idx <= 20; idx += 2) {
		c = chunk_of(&t, idx);
		seal_as_before(&t, &c);
	}
	again(&t);
	assert_int_equal(chunk_of(&t, 2).n_tags, 1);
	assert_true(cf_holds(t.file, 4096, 2 * CHUNK + BLOB_BLOCK, 3));
	assert_int_equal(bytes_read, CHUNK);
	assert_true(cf_holds(t.file, SIZE, 0, 3));
	/* Written anew they are of blocks. */
	cf_write(t.file, 100, 2 * CHUNK + 50, 3);
	ok(file_commit(t.file));
	again(&t);
	assert_int_equal(chunk_of(&t, 2).n_tags, BLOCKS);
	assert_true(cf_holds(t.file, SIZE, 0, 3));
	done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_small_read_opens_its_blocks),
		cmocka_unit_test(test_how_many_blocks_a_chunk_has),
		cmocka_unit_test(test_each_block_is_bound),
		cmocka_unit_test(test_an_old_block_does_not_open),
		cmocka_unit_test(test_chunks_of_before_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
