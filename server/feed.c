#include "server/feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "server/handlers.h"

#define LIMIT_DEFAULT 1000
#define LIMIT_MAX 10000
#define CURSOR_SIZE 64
#define EXTERNAL_POLL_MS 500

struct feed {
	struct server *s;
	struct store_db *db;  /* the ticker's: looks for commits of other processes */
	int64_t last_poll_ms; /* the ticker's */
	int64_t data_version; /* the ticker's */

	pthread_mutex_t lock; /* guards what follows; taken before libmicrohttpd's own */
	uint64_t generation;
	struct request *waiting;
	struct buffer seen; /* struct store_row: the numbers last heard of */
	bool stopped;
};

int server_feed_new(struct server *s, struct feed **out)
{
	struct feed *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->s = s;
	pthread_mutex_init(&f->lock, NULL);
	r = server_store_open(s->dir, &f->db);
	if (r) {
		server_feed_free(f);
		return r;
	}
	*out = f;
	return 0;
}

void server_feed_free(struct feed *f)
{
	if (!f)
		return;
	server_store_close(f->db);
	buffer_done(&f->seen);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* ---- waiting and waking ---- */

/* True when the request was suspended; false when something was committed since `generation`. */
static bool wait_for_change(struct feed *f, struct request *r, uint64_t generation)
{
	bool waits;

	pthread_mutex_lock(&f->lock);
	waits = f->generation == generation && !f->stopped;
	if (waits) {
		server_http_suspend(r);
		r->next_waiter = f->waiting;
		f->waiting = r;
	}
	pthread_mutex_unlock(&f->lock);
	return waits;
}

static bool is_among(int64_t store, const struct store_row *stores, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (stores[i].n == store)
			return true;
	return false;
}

/* Resumes those of these stores, and those whose deadline is not after `now_ms`. Needs the lock. */
static void wake(struct feed *f, const struct store_row *stores, size_t n, int64_t now_ms)
{
	struct request **link = &f->waiting, *r;

	while ((r = *link)) {
		if (r->feed.deadline_ms > now_ms && !is_among(r->store.n, stores, n)) {
			link = &r->next_waiter;
			continue;
		}
		*link = r->next_waiter;
		server_http_resume(r);
	}
}

/* Remembers the numbers of these stores; true when one of them is news. Needs the lock. */
static bool note(struct feed *f, const struct store_row *row)
{
	struct store_row *seen = (struct store_row *)f->seen.data;

	for (size_t i = 0; i < f->seen.len / sizeof(*seen); i++) {
		if (seen[i].n != row->n)
			continue;
		if (seen[i].seq == row->seq && seen[i].queries_seq == row->queries_seq)
			return false;
		seen[i] = *row;
		return true;
	}
	/* Out of memory: it stays news, and its pollers query more often. */
	(void)!buffer_append(&f->seen, row, sizeof(*row));
	return true;
}

void server_feed_changed(void *feed, const struct store_row *stores, size_t n)
{
	struct feed *f = feed;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < n; i++)
		if (note(f, &stores[i])) {
			f->generation++;
			wake(f, &stores[i], 1, 0);
		}
	pthread_mutex_unlock(&f->lock);
}

static int64_t read_data_version(struct feed *f)
{
	sqlite3_stmt *q = server_store_statement(f->db, SQL_DATA_VERSION);
	int64_t v = server_store_step(f->db, q) == 1 ? sqlite3_column_int64(q, 0) : 0;

	server_store_reset(q);
	return v;
}

/* An import in another process commits past the writer: seen here, by the numbers of the stores. */
static void poll_external(struct feed *f)
{
	int64_t version = read_data_version(f);
	sqlite3_stmt *q;
	struct store_row row;

	if (version == f->data_version)
		return;
	f->data_version = version;
	q = server_store_statement(f->db, SQL_STORE_LIST);
	while (server_store_step(f->db, q) == 1) {
		server_records_read_store(q, &row);
		pthread_mutex_lock(&f->lock);
		if (note(f, &row)) {
			f->generation++;
			wake(f, &row, 1, 0);
		}
		pthread_mutex_unlock(&f->lock);
	}
	server_store_reset(q);
}

void server_feed_tick(struct feed *f)
{
	int64_t now_ms = clock_boot_ms();

	if (now_ms - f->last_poll_ms >= EXTERNAL_POLL_MS) {
		f->last_poll_ms = now_ms;
		poll_external(f);
	}
	pthread_mutex_lock(&f->lock);
	wake(f, NULL, 0, now_ms);
	pthread_mutex_unlock(&f->lock);
}

void server_feed_stop(struct feed *f)
{
	pthread_mutex_lock(&f->lock);
	f->stopped = true;
	wake(f, NULL, 0, INT64_MAX);
	pthread_mutex_unlock(&f->lock);
}

/* ---- the query ---- */

static bool parse_cursor(struct request *r, const char *text)
{
	struct feed_query *q = &r->feed;
	unsigned tag;
	unsigned long long seq, base, queries = 0;
	int end = 0;

	if (strspn(text, "0123456789abcdef.") != strlen(text) ||
		sscanf(text, "%8x.%19llu.%19llu%n.%9llu%n", &tag, &seq, &base, &end, &queries,
			&end) < 3 ||
		text[end]) {
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "since is not a cursor");
		return false;
	}
	if (tag != r->s->tag)
		server_http_refuse(r, PROBLEM_CURSOR_GONE, "the server's data were restored");
	q->seq = seq;
	q->base = base;
	q->queries = queries;
	return true;
}

static uint64_t number_parameter(
	struct request *r, const char *name, uint64_t fallback, uint64_t max)
{
	char text[24];
	const char *value = server_http_query(r, name, text, sizeof(text));
	uint64_t n = fallback;

	if (value && server_wire_u64(value, &n))
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "limit and wait are decimal numbers");
	return MIN_OF(n, max);
}

void server_feed_begin(struct request *r)
{
	char text[CURSOR_SIZE];
	const char *since = server_http_query(r, "since", text, sizeof(text));
	uint64_t wait;

	if (!since || !*since)
		r->feed.from_start = true;
	else if (!parse_cursor(r, since))
		return;
	r->feed.limit = number_parameter(r, "limit", LIMIT_DEFAULT, LIMIT_MAX);
	if (!r->feed.limit)
		server_http_refuse(r, PROBLEM_BAD_REQUEST, "limit is at least 1");
	wait = number_parameter(r, "wait", 0, SERVER_MAX_WAIT_S);
	r->feed.deadline_ms = wait ? clock_boot_ms() + (int64_t)wait * 1000 : 0;
}

static bool is_gone(const struct feed_query *q, const struct store_row *store)
{
	return !q->from_start && store->purged_seq > MAX_OF(q->seq, q->base);
}

/* Of this epoch, and of a state that is not here: an older copy was put back, and `serve restored`
 * was not said. */
static bool is_ahead(const struct feed_query *q, const struct store_row *store)
{
	return !q->from_start && q->seq > store->seq;
}

/* The records behind q->seq; *last: the number the page reaches to; returns their number. */
static int print_records(struct request *r, struct store_db *db, uint64_t *last, bool *full)
{
	const struct feed_query *q = &r->feed;
	sqlite3_stmt *stmt = server_store_statement(db, SQL_RECORD_FEED);
	struct buffer *b = &r->answer.text;
	struct record record;
	uint64_t rows = 0;
	int printed = 0, rc;

	sqlite3_bind_int64(stmt, 1, r->store.n);
	sqlite3_bind_int64(stmt, 2, (int64_t)q->seq);
	sqlite3_bind_int64(stmt, 3, (int64_t)q->limit);
	while ((rc = server_store_step(db, stmt)) == 1) {
		server_records_read(stmt, &record);
		rows++;
		*last = record.seq;
		if (q->from_start && record.deleted)
			continue;
		rc = printed ? buffer_append(b, ",", 1) : 0;
		if (!rc)
			rc = server_records_print(b, &record, true);
		if (rc)
			break;
		printed++;
	}
	server_store_reset(stmt);
	*full = rows == q->limit;
	return rc ? rc : printed;
}

/* One page into r->answer; returns the number of news in it. */
static int print_page(struct request *r, struct store_db *db)
{
	struct feed_query *q = &r->feed;
	struct store_row store;
	uint64_t last = q->seq;
	bool full, queries;
	int n, rc = server_records_store_by_n(db, r->store.n, &store);

	if (rc)
		return rc;
	if (is_ahead(q, &store) || is_gone(q, &store)) {
		server_http_refuse(r,
			is_ahead(q, &store) ? PROBLEM_CURSOR_AHEAD : PROBLEM_CURSOR_GONE, NULL);
		return 0;
	}
	/* Who starts has the list of queries from elsewhere, or is about to. */
	if (q->from_start && !q->begun)
		q->queries = store.queries_seq;
	q->begun = true;
	queries = q->queries != store.queries_seq;
	r->answer.text.len = 0;
	rc = buffer_printf(&r->answer.text, "{\"changes\":[");
	if (rc)
		return rc;
	n = print_records(r, db, &last, &full);
	if (n < 0)
		return n;
	if (!full)
		last = store.seq;
	rc = buffer_printf(&r->answer.text,
		"],\"cursor\":\"%08x.%llu.%llu.%llu\",\"more\":%s,\"records\":%llu%s}", r->s->tag,
		(unsigned long long)last,
		(unsigned long long)(q->from_start ? store.purged_seq : q->base),
		(unsigned long long)store.queries_seq, last < store.seq ? "true" : "false",
		(unsigned long long)store.records, queries ? ",\"queries\":true" : "");
	return rc ? rc : n + queries;
}

static int query(struct request *r)
{
	struct store_db *db;
	int n, rc = server_pool_take(r->s->pool, &db);

	if (rc)
		return rc;
	/* One transaction: the page, the counters and the end of the feed are of one moment. */
	n = server_store_run(db, SQL_BEGIN_READ);
	if (!n)
		n = print_page(r, db);
	server_store_rollback(db);
	server_pool_give(r->s->pool, db);
	return n;
}

void server_feed_answer(struct request *r)
{
	struct feed *f = r->s->feed;
	uint64_t generation;
	int n;

	do {
		pthread_mutex_lock(&f->lock);
		generation = f->generation;
		pthread_mutex_unlock(&f->lock);
		n = query(r);
		if (n || r->answer.status || clock_boot_ms() >= r->feed.deadline_ms ||
			atomic_load(&r->s->stopping))
			break;
	} while (!wait_for_change(f, r, generation));
	if (r->suspended)
		return;
	if (n < 0) {
		server_http_fail(r, n);
	} else if (!r->answer.status) {
		r->answer.status = 200;
		r->answer.type = ANSWER_JSON;
	}
}
