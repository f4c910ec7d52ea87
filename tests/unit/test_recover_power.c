/*
 * Goal: P2 under power loss. The process's writes are recorded (pwrite, ftruncate, fallocate,
 * fdatasync are interposed); at a random one of them the state that a disk could be left in is
 * built: what was synced, and of each 4096-byte block written since, any. Every file must then be
 * one whole committed state, not older than its last fsync. Attacks invariants I1 to I6 of
 * cache/durable.c.
 *
 * CACHET_SEED repeats a run, CACHET_CUTS makes it longer.
 */
#include "content_fixture.h"

#include <sys/syscall.h>

#include "meta/redo.h"
#include "unit.h"

#define FILES 8
#define SMALL_MAX_BYTES 70000 /* now and then more than fits into a pack */
#define STATES_MAX 200
#define SIZE_MAX_BYTES (300u << 10)
#define BLOCK 4096

/* --- the recorder --- */

struct change {
	struct change *next;
	enum { WRITE, TRUNCATE, PUNCH } kind;
	uint64_t off, len;
	uint8_t *data;
};

struct disk_file {
	struct disk_file *next;
	dev_t dev;
	ino_t ino;
	uint8_t *synced;
	uint64_t size;
	struct change *first, **last; /* since the last sync */
};

static struct {
	pthread_mutex_t lock;
	bool on;
	char dir[96];
	struct disk_file *files;
	unsigned long calls, cut_at;
	char cut_dir[128];
	uint64_t random;
	unsigned keep_percent;
	void (*at_cut)(void *arg);
	void *arg;
} rec = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t rec_random(void)
{
	rec.random = rec.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return rec.random >> 33;
}

static struct disk_file *rec_find(dev_t dev, ino_t ino)
{
	struct disk_file *d = rec.files;

	while (d && (d->dev != dev || d->ino != ino))
		d = d->next;
	return d;
}

/* Only blobs, index and unsent.log: the keyring is replaced whole by base/io.h, which its own test attacks.
 */
static struct disk_file *rec_file(int fd)
{
	char path[512];
	struct disk_file *d;
	struct stat st;

	if (!rec.on || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	d = rec_find(st.st_dev, st.st_ino);
	if (d)
		return d;
	if (strncmp(unit_fd_path(fd, path), rec.dir, strlen(rec.dir)) ||
		(!strstr(path, "/blobs/") && !strstr(path, "/" DB_FILE) &&
			!strstr(path, "/" REDO_FILE) && !strstr(path, "/unsent.log")))
		return NULL;
	d = calloc(1, sizeof(*d));
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	d->last = &d->first;
	d->next = rec.files;
	rec.files = d;
	return d;
}

static void image_resize(uint8_t **image, uint64_t *size, uint64_t to)
{
	if (to > *size) {
		*image = realloc(*image, to);
		memset(*image + *size, 0, to - *size);
	}
	*size = to;
}

/* `percent` of the blocks of a write reach the disk. */
static void apply(uint8_t **image, uint64_t *size, const struct change *c, unsigned percent)
{
	if (c->kind == TRUNCATE) {
		if (rec_random() % 100 < percent)
			image_resize(image, size, c->len);
		return;
	}
	for (uint64_t at = 0; at < c->len;) {
		uint64_t n = MIN_OF(BLOCK - (c->off + at) % BLOCK, c->len - at);

		if (rec_random() % 100 < percent) {
			if (c->kind == WRITE && c->off + at + n > *size)
				image_resize(image, size, c->off + at + n);
			if (c->kind == WRITE)
				memcpy(*image + c->off + at, c->data + at, n);
			else if (c->off + at < *size)
				memset(*image + c->off + at, 0, MIN_OF(n, *size - c->off - at));
		}
		at += n;
	}
}

static void forget_changes(struct disk_file *d)
{
	struct change *c;

	while ((c = d->first)) {
		d->first = c->next;
		free(c->data);
		free(c);
	}
	d->last = &d->first;
}

static void rec_synced(struct disk_file *d)
{
	for (struct change *c = d->first; c; c = c->next)
		apply(&d->synced, &d->size, c, 100);
	forget_changes(d);
}

static void copy_out(const char *path, const uint8_t *data, uint64_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < size;) {
		ssize_t n = write(fd, data + at, size - at);

		assert_true(n > 0);
		at += (uint64_t)n;
	}
	close(fd);
}

static int cut_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	struct disk_file *d = rec_find(st->st_dev, st->st_ino);
	char to[512], buf[65536];
	uint8_t *image = NULL;
	uint64_t size = 0;

	snprintf(to, sizeof(to), "%s%s", rec.cut_dir, path + strlen(rec.dir));
	if (type == FTW_D) {
		mkdir(to, 0700);
		return 0;
	}
	if (!d) {
		int fd = open(path, O_RDONLY);
		ssize_t n = read(fd, buf, sizeof(buf));

		assert_true(n >= 0 && n < (ssize_t)sizeof(buf));
		close(fd);
		copy_out(to, (uint8_t *)buf, (uint64_t)n);
		return 0;
	}
	if (d->size) {
		image = malloc(d->size);
		memcpy(image, d->synced, d->size);
		size = d->size;
	}
	for (struct change *c = d->first; c; c = c->next)
		apply(&image, &size, c, rec.keep_percent);
	copy_out(to, image, size);
	free(image);
	return 0;
}

/* Before the change that is about to be made. rec.lock held. */
static void rec_count(void)
{
	if (++rec.calls != rec.cut_at)
		return;
	rec.on = false;
	nftw(rec.dir, cut_entry, 16, FTW_PHYS);
	rec.at_cut(rec.arg);
}

static void rec_change(int fd, int kind, const void *data, uint64_t len, uint64_t off)
{
	struct disk_file *d;
	struct change *c;

	pthread_mutex_lock(&rec.lock);
	d = rec_file(fd);
	if (d)
		rec_count();
	if (d && rec.on) {
		c = calloc(1, sizeof(*c));
		c->kind = kind;
		c->off = off;
		c->len = len;
		if (data) {
			c->data = malloc(len);
			memcpy(c->data, data, len);
		}
		*d->last = c;
		d->last = &c->next;
	}
	pthread_mutex_unlock(&rec.lock);
}

static void rec_sync(int fd)
{
	struct disk_file *d;

	pthread_mutex_lock(&rec.lock);
	d = rec_file(fd);
	if (d)
		rec_count();
	if (d && rec.on)
		rec_synced(d);
	pthread_mutex_unlock(&rec.lock);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off);
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
	rec_change(fd, WRITE, buf, len, (uint64_t)off);
	return syscall(SYS_pwrite64, fd, buf, len, off);
}

int ftruncate64(int fd, off64_t len);
int ftruncate64(int fd, off64_t len)
{
	rec_change(fd, TRUNCATE, NULL, (uint64_t)len, 0);
	return (int)syscall(SYS_ftruncate, fd, len);
}

int fallocate64(int fd, int mode, off64_t off, off64_t len);
int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	rec_change(fd, PUNCH, NULL, (uint64_t)len, (uint64_t)off);
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

/* When an earlier sync covers what the later one does, the order of the record does not matter. */
int fdatasync(int fd)
{
	int r = (int)syscall(SYS_fdatasync, fd);

	rec_sync(fd);
	return r;
}

int fsync(int fd)
{
	int r = (int)syscall(SYS_fsync, fd);

	rec_sync(fd);
	return r;
}

/* --- the oracle --- */

struct state {
	uint8_t *bytes;
	size_t size;
};

struct subject {
	uint64_t object;
	struct state states[STATES_MAX];
	size_t most;    /* bytes */
	size_t n;       /* states that may have been committed */
	size_t durable; /* the oldest that may be found */
};

struct oracle {
	struct content_fixture f;
	struct subject files[FILES];
	size_t n_at_cut[FILES], durable_at_cut[FILES];
	bool cut;
};

static void note_cut(void *arg)
{
	struct oracle *o = arg;

	for (unsigned i = 0; i < FILES; i++) {
		o->n_at_cut[i] = o->files[i].n;
		o->durable_at_cut[i] = o->files[i].durable;
	}
	o->cut = true;
}

/* The next state: the last with one change. Counted before it is committed. */
static struct state *grow_state(struct subject *s)
{
	struct state *old = &s->states[s->n - 1], *new = &s->states[s->n];

	new->bytes = calloc(1, SIZE_MAX_BYTES);
	memcpy(new->bytes, old->bytes, old->size);
	new->size = old->size;
	return new;
}

static void locked_count(struct subject *s, size_t n, size_t durable)
{
	pthread_mutex_lock(&rec.lock);
	s->n = n;
	s->durable = durable;
	pthread_mutex_unlock(&rec.lock);
}

/* Several writes, one commit. Truncation commits by itself, so it is the only change of its state.
 */
static void change_file(struct subject *s, struct file *file, unsigned seed)
{
	struct state *new = grow_state(s);

	/* Committed from here on at any time: the keeper may do it. */
	if (rec_random() % 5 == 0) {
		new->size = rec_random() % 4 ? rec_random() % (s->most / 2) : 0;
		memset(new->bytes + new->size, 0, SIZE_MAX_BYTES - new->size);
		locked_count(s, s->n + 1, s->durable);
		ok(file_truncate(file, new->size));
		return;
	}
	if (rec_random() % 5 == 0 && new->size) {
		size_t off = rec_random() % new->size & ~(size_t)65535;
		size_t len = 1 + rec_random() % (new->size - off);

		memset(new->bytes + off, 0, len);
		locked_count(s, s->n + 1, s->durable);
		ok(file_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len));
		return;
	}
	{
		size_t off = rec_random() % (s->most - 1);
		size_t len = 1 + rec_random() % MIN_OF(s->most - off, s->most / 2);

		off = rec_random() % 2 ? off & ~(size_t)65535 : off;
		cf_pattern(new->bytes + off, len, off, seed);
		new->size = MAX_OF(new->size, off + len);
		locked_count(s, s->n + 1, s->durable);
		ok(file_write(file, new->bytes + off, len, off));
	}
}

static void work(struct oracle *o, unsigned step)
{
	struct subject *s = &o->files[rec_random() % FILES];
	struct file *file = cf_file(&o->f, s->object);
	size_t n;

	if (s->n < STATES_MAX)
		change_file(s, file, step);
	n = s->n;
	if (rec_random() % 4 == 0) {
		ok(file_sync(file));
		locked_count(s, s->n, n - 1);
	} else {
		ok(file_commit(file));
	}
	file_unref(file, true);
	if (rec_random() % 16 == 0) {
		ok(volume_sync(o->f.v));
		for (unsigned i = 0; i < FILES; i++)
			locked_count(&o->files[i], o->files[i].n, o->files[i].n - 1);
	}
}

static bool is_state(const struct state *st, const uint8_t *buf, size_t size)
{
	return st->size == size && !memcmp(st->bytes, buf, size);
}

static void check_file(struct oracle *o, struct content_fixture *g, unsigned i)
{
	uint8_t *buf = calloc(1, SIZE_MAX_BYTES + 1);
	struct file *file = cf_file(g, o->files[i].object);
	size_t got = 0, k;
	int r = file_read(file, buf, SIZE_MAX_BYTES + 1, 0, &got);

	if (r)
		fail_msg("file %u cannot be read: %s", i, error_text(r));
	for (k = o->durable_at_cut[i]; k < o->n_at_cut[i]; k++) {
		if (is_state(&o->files[i].states[k], buf, got))
			break;
	}
	if (k == o->n_at_cut[i])
		fail_msg("file %u is none of its states %zu to %zu", i, o->durable_at_cut[i],
			o->n_at_cut[i] - 1);
	assert_int_equal(cf_row(g, o->files[i].object).size, got);
	file_unref(file, true);
	free(buf);
}

/* Twice: what recovery wrote must itself be whole. */
static void check_cut(struct oracle *o)
{
	struct content_fixture g = o->f;

	snprintf(g.dir, sizeof(g.dir), "%.90s", rec.cut_dir);
	for (int round = 0; round < 2; round++) {
		cf_open(&g);
		for (unsigned i = 0; i < FILES; i++)
			check_file(o, &g, i);
		cf_close(&g);
	}
}

static void rec_start(struct oracle *o, unsigned keep_percent)
{
	pthread_mutex_lock(&rec.lock);
	snprintf(rec.dir, sizeof(rec.dir), "%s", o->f.dir);
	snprintf(rec.cut_dir, sizeof(rec.cut_dir), "%s/cut", o->f.top);
	rec.keep_percent = keep_percent;
	rec.calls = 0;
	rec.cut_at = 1 + rec_random() % 400;
	rec.at_cut = note_cut;
	rec.arg = o;
	rec.on = true;
	pthread_mutex_unlock(&rec.lock);
}

static void rec_stop(void)
{
	struct disk_file *d;

	pthread_mutex_lock(&rec.lock);
	rec.on = false;
	while ((d = rec.files)) {
		rec.files = d->next;
		forget_changes(d);
		free(d->synced);
		free(d);
	}
	pthread_mutex_unlock(&rec.lock);
}

/* The recorder must know what is on disk when it starts: everything there is synced then. */
static int seed_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
	struct disk_file *d;
	int fd;

	if (type != FTW_F)
		return 0;
	fd = open(path, O_RDONLY);
	d = rec_file(fd);
	if (d) {
		image_resize(&d->synced, &d->size, (uint64_t)st->st_size);
		if (pread(fd, d->synced, d->size, 0) != (ssize_t)d->size)
			abort();
	}
	close(fd);
	return 0;
}

static void one_cut(unsigned keep_percent)
{
	struct oracle o = { .cut = false };

	cf_init(&o.f);
	for (unsigned i = 0; i < FILES; i++) {
		o.files[i].object = cf_object(&o.f);
		o.files[i].states[0].bytes = calloc(1, SIZE_MAX_BYTES);
		o.files[i].n = 1;
		o.files[i].most = i % 2 ? SMALL_MAX_BYTES : SIZE_MAX_BYTES;
	}
	ok(volume_sync(o.f.v));
	rec_start(&o, keep_percent);
	pthread_mutex_lock(&rec.lock);
	nftw(rec.dir, seed_entry, 16, FTW_PHYS);
	pthread_mutex_unlock(&rec.lock);
	for (unsigned step = 1; step < 60 && !o.cut; step++)
		work(&o, step);
	pthread_mutex_lock(&rec.lock);
	if (!o.cut) {
		rec.cut_at = rec.calls + 1;
		rec_count();
	}
	pthread_mutex_unlock(&rec.lock);
	rec_stop();
	cf_close(&o.f);
	check_cut(&o);
	cf_done(&o.f);
	for (unsigned i = 0; i < FILES; i++) {
		for (size_t k = 0; k < o.files[i].n; k++)
			free(o.files[i].states[k].bytes);
	}
}

static void cuts(unsigned keep_percent)
{
	const char *seed = getenv("CACHET_SEED"), *n = getenv("CACHET_CUTS");
	unsigned count = n ? (unsigned)strtoul(n, NULL, 0) : 10;
	uint64_t s = seed ? strtoull(seed, NULL, 0) : (uint64_t)clock_wall_ns();

	for (unsigned i = 0; i < count; i++) {
		rec.random = s + i;
		if (i == 0)
			print_message("CACHET_SEED=%llu\n", (unsigned long long)s);
		rec_random();
		one_cut(keep_percent);
	}
}

static void test_nothing_unsynced_reached_the_disk(void **state)
{
	cuts(0);
}

static void test_some_of_the_unsynced_reached_the_disk(void **state)
{
	cuts(50);
}

static void test_most_of_the_unsynced_reached_the_disk(void **state)
{
	cuts(95);
}

static void test_all_of_the_unsynced_reached_the_disk(void **state)
{
	cuts(100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_unsynced_reached_the_disk),
		cmocka_unit_test(test_some_of_the_unsynced_reached_the_disk),
		cmocka_unit_test(test_most_of_the_unsynced_reached_the_disk),
		cmocka_unit_test(test_all_of_the_unsynced_reached_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
