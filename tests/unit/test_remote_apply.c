/* What the origin says, page by page: order, places, deletions, listings, hostile records. */
#include "origin_model.h"

static struct remote_record file_record(
	const char *id, const char *parent, const char *name, const char *etag, uint64_t seq)
{
	struct remote_record r = {
		.kind = REMOTE_FILE, .mode = 0644, .size = 3, .seq = seq, .has_sha256 = true
	};

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.parent, sizeof(r.parent), "%s", parent);
	snprintf(r.name, sizeof(r.name), "%s", name);
	snprintf(r.etag, sizeof(r.etag), "\"%s\"", etag);
	ok(kdf_sha256(etag, strlen(etag), r.sha256));
	return r;
}

static struct remote_record dir_record(
	const char *id, const char *parent, const char *name, const char *etag, uint64_t seq)
{
	struct remote_record r = file_record(id, parent, name, etag, seq);

	r.kind = REMOTE_DIR;
	r.mode = 0755;
	r.size = 0;
	r.has_sha256 = false;
	return r;
}

static struct remote_record gone_record(const char *id, uint64_t seq)
{
	struct remote_record r = { .deleted = true, .seq = seq };

	snprintf(r.id, sizeof(r.id), "%s", id);
	return r;
}

static struct remote_report apply(struct tree_fixture *f, const struct remote_record *r, size_t n)
{
	struct remote_report report;

	ok(remote_apply(f->v, f->store, r, n, "cursor", false, &report));
	return report;
}

static void parents_may_come_in_any_order(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record all[5] = {
		dir_record("d1", "root", "1", "a", 1),
		dir_record("d2", "d1", "2", "b", 2),
		dir_record("d3", "d2", "3", "c", 3),
		file_record("f", "d3", "f", "d", 4),
		file_record("g", "d1", "g", "e", 5),
	};
	uint64_t random = 1;

	for (int run = 0; run < 60; run++) {
		struct remote_record order[5];
		char name[32];

		memcpy(order, all, sizeof(all));
		for (size_t i = 5; i > 1; i--) {
			size_t k =
				(random = random * 6364136223846793005u + 1442695040888963407u) >>
				33;
			struct remote_record t = order[i - 1];

			order[i - 1] = order[k % i];
			order[k % i] = t;
		}
		snprintf(name, sizeof(name), "run-%d", run);
		tf_store(f, name);
		/* All in one page, or each in its own. */
		if (run % 2)
			apply(f, order, 5);
		for (int i = 0; i < 5 && run % 2 == 0; i++)
			apply(f, &order[i], 1);
		assert_int_not_equal(tf_at(f, "1/2/3/f"), 0);
		assert_int_not_equal(tf_at(f, "1/g"), 0);
		assert_int_equal(tf_attr(f, "1").nlink, 3);
	}
}

static void an_identical_etag_changes_nothing(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = file_record("f", "root", "f", "1", 1);
	struct tree_attr a;

	assert_int_equal(apply(f, &r, 1).applied, 1);
	a = tf_attr(f, "f");
	r.mode = 0600;
	r.seq = 2;
	assert_int_equal(apply(f, &r, 1).applied, 0);
	assert_int_equal(tf_attr(f, "f").mode, a.mode);
}

static void new_content_is_a_new_version_and_new_attributes_are_not(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = file_record("f", "root", "f", "1", 1);
	struct tree_attr a, b;

	apply(f, &r, 1);
	a = tf_attr(f, "f");
	memcpy(r.etag, "\"2\"", 4);
	r.mode = 0600;
	apply(f, &r, 1);
	b = tf_attr(f, "f");
	assert_int_equal(b.version, a.version);
	assert_int_equal(b.mode & 07777, 0600);
	r = file_record("f", "root", "f", "3", 3);
	r.size = 9;
	apply(f, &r, 1);
	b = tf_attr(f, "f");
	assert_int_equal(b.version, a.version + 1);
	assert_int_equal(b.size, 9);
	assert_int_equal(tree_getattr(f->v, a.object, a.version, &a), CE_STALE);
}

static void two_records_change_places_in_one_page(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { file_record("a", "root", "x", "1", 1),
		file_record("b", "root", "y", "2", 2) };
	uint64_t a, b;

	apply(f, r, 2);
	a = tf_at(f, "x");
	b = tf_at(f, "y");
	r[0] = file_record("a", "root", "y", "3", 3);
	r[1] = file_record("b", "root", "x", "4", 4);
	memcpy(r[0].sha256, file_record("a", "root", "x", "1", 1).sha256, 32);
	memcpy(r[1].sha256, file_record("b", "root", "y", "2", 2).sha256, 32);
	/* Also when the page ends in between. */
	apply(f, &r[0], 1);
	assert_int_equal(tf_at(f, "y"), a);
	assert_int_equal(tf_at(f, "x"), 0);
	apply(f, &r[1], 1);
	assert_int_equal(tf_at(f, "x"), b);
}

static void directories_that_change_their_order_do(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { dir_record("a", "root", "a", "1", 1),
		dir_record("b", "a", "b", "2", 2) };

	apply(f, r, 2);
	/* a moved into b after b had moved out: b's entry comes later, for it changed once more. */
	r[0] = dir_record("a", "b", "a", "3", 4);
	r[1] = dir_record("b", "root", "b", "4", 5);
	apply(f, r, 2);
	assert_int_not_equal(tf_at(f, "b/a"), 0);
	assert_int_equal(tf_at(f, "a"), 0);
}

static void a_loop_never_comes_to_stand(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { dir_record("a", "root", "a", "1", 1),
		dir_record("b", "a", "b", "2", 2) };
	char *path;

	apply(f, r, 2);
	r[0] = dir_record("a", "b", "a", "3", 3);
	apply(f, r, 1);
	ok(tree_path(f->v, tf_at(f, "a/b"), &path));
	assert_string_equal(path, "records/a/b");
	free(path);
	r[0] = dir_record("p", "q", "p", "4", 4);
	r[1] = dir_record("q", "p", "q", "5", 5);
	apply(f, r, 2);
	r[0] = dir_record("self", "self", "s", "6", 6);
	apply(f, r, 1);
	om_retry(f);
}

static void a_parent_that_is_a_file_is_no_parent(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { file_record("a", "root", "a", "1", 1),
		file_record("b", "a", "b", "2", 2) };

	assert_int_equal(apply(f, r, 2).deferred, 1);
}

static void a_local_file_that_was_never_sent_gives_way(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = file_record("r", "root", "doc.txt", "1", 1);
	struct om_listing *l = calloc(1, sizeof(*l));

	ok(tf_write(f, "doc.txt", "mine, longer"));
	assert_int_equal(apply(f, &r, 1).conflicts, 1);
	assert_int_equal(tf_attr(f, "doc.txt").size, 3);
	ok(tree_readdir(f->v, f->root, 0, om_entry, l));
	assert_int_equal(l->n, 2);
	assert_memory_equal(l->e[0].name, "doc (conflict test ", 19);
	assert_int_equal(l->e[0].a.size, 12);
	assert_string_equal(l->e[0].name + strlen(l->e[0].name) - 4, ".txt");
	free(l);
}

static void a_local_directory_becomes_the_record_of_its_name(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { dir_record("r", "root", "d", "1", 1),
		file_record("x", "r", "theirs", "2", 2) };

	ok(tf_mkdir(f, "d"));
	ok(tf_write(f, "d/mine", "1"));
	assert_int_equal(apply(f, r, 2).conflicts, 0);
	assert_int_not_equal(tf_at(f, "d/mine"), 0);
	assert_int_not_equal(tf_at(f, "d/theirs"), 0);
	assert_journal(f, "PUT+:mine");
}

static void a_file_that_is_written_waits(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = file_record("f", "root", "f", "1", 1);
	struct tree_attr a;
	struct file *file;

	r.size = 0;
	ok(kdf_sha256("", 0, r.sha256));
	apply(f, &r, 1);
	a = tf_attr(f, "f");
	ok(file_open(f->v, a.object, a.version, true, &file));
	r = file_record("f", "root", "f", "2", 2);
	assert_int_equal(apply(f, &r, 1).deferred, 1);
	assert_int_equal(tf_attr(f, "f").version, a.version);
	file_unref(file, true);
	om_retry(f);
	assert_int_equal(tf_attr(f, "f").version, a.version + 1);
}

static void it_is_tried_again_in_the_last_of_many_stores(void **state)
{
	struct tree_fixture *f = *state;
	struct store_row s;

	ok(db_begin(f->v->db));
	ok(store_get(f->v->db, f->store, &s));
	for (unsigned i = 0; i < 4100; i++) {
		snprintf(s.name, sizeof(s.name), "s%u", i);
		ok(store_insert(f->v->db, &s));
	}
	ok(db_commit(f->v->db));
	tf_store(f, "last");
	a_file_that_is_written_waits(state);
}

static void a_tombstone_removes_and_unsent_work_inside_brings_back(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[3] = { dir_record("d", "root", "d", "1", 1),
		file_record("f", "d", "f", "2", 2) };

	apply(f, r, 2);
	ok(tf_write(f, "d/mine", "1"));
	r[0] = gone_record("f", 3);
	r[1] = gone_record("d", 4);
	apply(f, r, 2);
	assert_int_equal(tf_at(f, "d/f"), 0);
	assert_int_not_equal(tf_at(f, "d/mine"), 0);
	assert_journal(f, "PUT+:mine PUT+:d");
}

static void a_directory_goes_when_its_children_have_moved(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { dir_record("d", "root", "d", "1", 1),
		file_record("f", "d", "f", "2", 2) };

	apply(f, r, 2);
	r[0] = gone_record("d", 3);
	r[1] = file_record("f", "root", "f", "4", 4);
	apply(f, &r[0], 1);
	assert_int_not_equal(tf_at(f, "d/f"), 0);
	apply(f, &r[1], 1);
	om_retry(f);
	assert_int_equal(tf_at(f, "d"), 0);
	assert_int_not_equal(tf_at(f, "f"), 0);
	assert_int_equal(tf_attr(f, "").nlink, 2);
}

static void fill(struct tree_fixture *f, int n)
{
	struct remote_record *r = calloc((size_t)n, sizeof(*r));
	char name[32];

	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		r[i] = file_record(name, "root", name, name, (uint64_t)i + 1);
	}
	apply(f, r, (size_t)n);
	free(r);
}

static void the_brake_holds_mass_deletions(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[11];
	struct remote_report report;
	char name[32];

	fill(f, 50);
	for (int i = 0; i < 11; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		r[i] = gone_record(name, 100 + (uint64_t)i);
	}
	assert_int_equal(remote_apply(f->v, f->store, r, 11, "next", false, &report), CE_HELD);
	assert_int_equal(report.held, 11);
	assert_int_not_equal(tf_at(f, "r0"), 0);
	assert_int_equal(apply(f, r, 10).removed, 10);
	ok(remote_apply(f->v, f->store, r, 11, "next", true, &report));
	assert_int_equal(tf_at(f, "r10"), 0);
}

static int get_store(void *arg, const struct remote_store *s)
{
	*(struct remote_store *)arg = *s;
	return 0;
}

static void a_listing_sweeps_what_it_did_not_have(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[4] = { dir_record("d", "root", "d", "1", 1),
		file_record("f", "d", "f", "2", 2), file_record("g", "root", "g", "3", 3),
		file_record("h", "root", "h", "4", 4) };
	struct remote_report report;
	struct remote_store s;

	apply(f, r, 4);
	ok(tf_unlink(f, "h"));
	ok(tf_write(f, "mine", "1"));
	ok(remote_listing_begin(f->v, f->store));
	ok(remote_stores(f->v, get_store, &s));
	assert_true(s.listing && s.listed && !s.cursor[0]);
	apply(f, &r[2], 1);
	assert_int_not_equal(tf_at(f, "d/f"), 0);
	tf_reopen(f);
	ok(remote_listing_end(f->v, f->store, false, &report));
	assert_int_equal(report.removed, 2);
	assert_int_equal(tf_at(f, "d"), 0);
	assert_int_not_equal(tf_at(f, "g"), 0);
	assert_int_not_equal(tf_at(f, "mine"), 0);
	assert_int_equal(remote_listing_end(f->v, f->store, false, &report), -EINVAL);
}

static void an_empty_listing_is_held(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_report report;

	fill(f, 20);
	ok(remote_listing_begin(f->v, f->store));
	assert_int_equal(remote_listing_end(f->v, f->store, false, &report), CE_HELD);
	assert_int_equal(report.held, 20);
	assert_int_not_equal(tf_at(f, "r7"), 0);
	ok(remote_listing_end(f->v, f->store, true, &report));
	assert_int_equal(tf_at(f, "r7"), 0);
}

static void a_late_page_does_not_turn_our_change_back(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct remote_record before;
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "one"));
	om_sync(f, m, &cursor, 10);
	before = m->rec[0].r;
	ok(tf_write(f, "a", "longer"));
	om_push_once(f, m, 10);
	before.has_key = false;
	apply(f, &before, 1);
	assert_int_equal(tf_attr(f, "a").size, 6);
	om_free(m);
}

static void our_own_echo_acknowledges(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct outbox_op op;
	char content[OM_CONTENT];
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "one"));
	op = tf_begun(f);
	om_content(f, &op, content);
	assert_int_equal(om_send(m, &op, content).status, 201);
	outbox_op_done(&op);
	om_pull(f, m, &cursor, 10);
	assert_journal(f, "");
	om_compare(f, m);
	om_free(m);
}

/* With our key it is the answer's business, which is judged by what was sent. */
static void an_echo_of_another_content_is_none(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct remote_record r;
	struct outbox_op op;

	ok(tf_write(f, "a", "one"));
	op = tf_begun(f);
	r = om_make(m, op.rid, REMOTE_FILE, "root", "a", "longer", op.key)->r;
	apply(f, &r, 1);
	assert_journal(f, "PUT+:a!");
	r.size = 3;
	r.deleted = true;
	apply(f, &r, 1);
	assert_journal(f, "PUT+:a!");
	r.deleted = false;
	apply(f, &r, 1);
	assert_journal(f, "");
	outbox_op_done(&op);
	om_free(m);
}

struct heard {
	unsigned entries, contents;
};

static void hear(void *arg, const struct volume_change *c, size_t n)
{
	struct heard *h = arg;

	for (size_t i = 0; i < n; i++) {
		h->entries += c[i].what == CHANGE_ENTRY && !strcmp(c[i].name, "f");
		h->contents += c[i].what == CHANGE_CONTENT;
	}
}

static void the_observer_hears_of_what_the_kernel_did_not_do(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = file_record("f", "root", "f", "1", 1);
	struct heard h = { 0 };

	volume_observe(f->v, VOLUME_WATCH, hear, &h);
	ok(tf_create(f, "g"));
	assert_int_equal(h.entries, 0);
	apply(f, &r, 1);
	assert_int_equal(h.entries, 1);
	r = file_record("f", "root", "f", "2", 2);
	apply(f, &r, 1);
	assert_int_equal(h.entries, 2);
	assert_int_equal(h.contents, 1);
	volume_observe(f->v, VOLUME_WATCH, NULL, NULL);
}

static void a_remote_change_of_one_name_breaks_the_link(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *r;
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "one"));
	ok(tf_link(f, "a", "b"));
	om_sync(f, m, &cursor, 10);
	r = om_at(m, "root", "a");
	snprintf(r->content, sizeof(r->content), "changed");
	om_changed(m, r, NULL);
	om_sync(f, m, &cursor, 10);
	assert_int_not_equal(tf_at(f, "a"), tf_at(f, "b"));
	assert_int_equal(tf_attr(f, "b").nlink, 1);
	assert_int_equal(tf_attr(f, "b").size, 3);
	om_compare(f, m);
	om_free(m);
}

static int parse(const char *text)
{
	_cleanup_json_ struct json *in = NULL;
	struct remote_record r;
	int e = json_parse(text, strlen(text), &in);

	return e ? e : remote_record_parse(in, &r);
}

#define RECORD(id, parent, name, rest)                                                             \
	"{\"id\":\"" id "\",\"parent\":\"" parent "\",\"name\":\"" name                            \
	"\",\"kind\":\"file\",\"etag\":\"\\\"e\\\"\"," rest "\"seq\":1}"
#define GOOD "\"size\":1,"

static void hostile_records_are_refused(void **state)
{
	char text[1024], name[301];
	static const char *const bad[] = {
		RECORD("a", "root", "..", GOOD),
		RECORD("a", "root", ".", GOOD),
		RECORD("a", "root", "x/y", GOOD),
		RECORD("a", "root", "", GOOD),
		RECORD("a", "a", "x", GOOD),
		RECORD("root", "d", "x", GOOD),
		RECORD("", "root", "x", GOOD),
		RECORD("a b", "root", "x", GOOD),
		RECORD("a", "../x", "x", GOOD),
		RECORD("a", "root", "x\\u0000y", GOOD),
		RECORD("a", "root", "x\xff", GOOD),
		RECORD("a", "root", "x", ""),
		RECORD("a", "root", "x", "\"size\":\"9223372036854775807\","),
		RECORD("a", "root", "x", "\"size\":-1,"),
		RECORD("a", "root", "x", "\"size\":1.5,"),
		RECORD("a", "root", "x", GOOD "\"mode\":4096,"),
		RECORD("a", "root", "x", GOOD "\"sha256\":\"00\","),
		RECORD("a", "root", "x", GOOD "\"key\":\"zz\","),
		RECORD("a", "root", "x", GOOD "\"deleted\":1,"),
		RECORD("a", "root", "x", GOOD "\"mtime_ns\":\"soon\","),
		"{\"id\":\"a\",\"parent\":\"root\",\"name\":\"x\",\"kind\":\"fifo\",\"etag\":"
		"\"\\\"e\\\"\",\"size\":1}",
		"{\"id\":\"a\",\"parent\":\"root\",\"name\":\"x\",\"kind\":\"file\",\"etag\":\"W/"
		"\\\"e\\\"\",\"size\":1}",
		"{\"id\":\"a\",\"parent\":\"root\",\"name\":\"x\",\"kind\":\"file\",\"etag\":\"e\","
		"\"size\":1}",
		"{\"id\":\"a\",\"parent\":\"root\",\"name\":\"x\",\"kind\":\"symlink\",\"etag\":"
		"\"\\\"e\\\"\",\"size\":4096}",
		"[]",
		"{}",
		"\"record\"",
	};

	ok(parse(RECORD("a", "root", "x", GOOD)));
	ok(parse(RECORD("a", "root", "x", GOOD "\"unknown\":{},\"mtime_ns\":\"-5\",")));
	ok(parse("{\"id\":\"a\",\"deleted\":true,\"seq\":7}"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (!parse(bad[i]))
			print_error("accepted: %s\n", bad[i]);
		assert_int_not_equal(parse(bad[i]), 0);
	}
	memset(name, 'n', sizeof(name) - 1);
	name[300] = 0;
	snprintf(text, sizeof(text), RECORD("a", "root", "%s", GOOD), name);
	assert_int_equal(parse(text), CE_PROTOCOL);
	name[255] = 0;
	snprintf(text, sizeof(text), RECORD("a", "root", "%s", GOOD), name);
	ok(parse(text));
	name[65] = 0;
	snprintf(text, sizeof(text), RECORD("%s", "root", "x", GOOD), name);
	assert_int_equal(parse(text), CE_PROTOCOL);
}

static void a_printed_record_reads_back(void **state)
{
	struct remote_record r = file_record("a", "root", "caf\xc3\xa9 \"x\"", "1", 9), back;
	char *text;

	r.kind = REMOTE_SYMLINK;
	r.target = (char *)"some/\xfftarget";
	r.mtime_ns = -5000000000;
	r.has_key = true;
	memset(r.key, 0xab, sizeof(r.key));
	ok(remote_record_print(&r, &text));
	ok(remote_record_load(text, &back));
	free(text);
	assert_string_equal(back.name, r.name);
	assert_string_equal(back.target, r.target);
	assert_int_equal(back.mtime_ns, r.mtime_ns);
	assert_memory_equal(back.key, r.key, sizeof(r.key));
	assert_memory_equal(back.sha256, r.sha256, sizeof(r.sha256));
	remote_record_done(&back);
}

static void a_directory_that_becomes_a_file_waits_for_what_is_in_it(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[2] = { dir_record("d", "root", "d", "1", 1),
		file_record("x", "d", "x", "2", 2) };

	apply(f, r, 2);
	r[0] = file_record("d", "root", "d", "3", 3);
	assert_int_equal(apply(f, r, 1).deferred, 1);
	assert_int_not_equal(tf_at(f, "d/x"), 0);
	r[0] = gone_record("x", 4);
	apply(f, r, 1);
	om_retry(f);
	assert_true(S_ISREG(tf_attr(f, "d").mode));
	assert_int_equal(tf_attr(f, "").nlink, 2);
}

static void the_same_record_twice_in_a_page_is_the_last(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r[3] = { file_record("a", "root", "x", "1", 1),
		file_record("a", "root", "y", "2", 2), file_record("b", "root", "y", "3", 3) };

	apply(f, r, 3);
	/* b has taken a's place: a will be said to be elsewhere. */
	assert_int_equal(tf_at(f, "x"), 0);
	assert_int_not_equal(tf_at(f, "y"), 0);
	r[0] = file_record("a", "root", "z", "4", 4);
	apply(f, r, 1);
	assert_int_not_equal(tf_at(f, "z"), 0);
}

static void names_of_conflict_copies_fit_and_do_not_clash(void **state)
{
	struct tree_fixture *f = *state;
	struct row_filename name, out, again;
	char text[256] = "";

	for (int i = 0; i < 83; i++)
		strcat(text, "\xe2\x82\xac");
	strcat(text, ".txt");
	assert_true(row_filename_set(&name, text, strlen(text)));
	db_read(f->v->db);
	ok(conflict_name(f->v, f->root, &name, 0, &out));
	db_unlock(f->v->db);
	assert_true(out.len <= 255);
	assert_true(bytes_is_utf8(out.bytes, out.len));
	assert_memory_equal(out.bytes + out.len - 5, ").txt", 5);
	ok(tf_create(f, (const char *)out.bytes));
	db_read(f->v->db);
	ok(conflict_name(f->v, f->root, &name, 0, &again));
	db_unlock(f->v->db);
	assert_memory_equal(again.bytes + again.len - 7, ")-2.txt", 7);
}

enum { PAGE = 2000, PAGES = 40, LONG = 240 };

/* Long names and ids without order: a page of records touches as many pages of the index. */
static void make_page(struct remote_record *page, unsigned nr)
{
	char id[65], name[LONG + 1];

	for (unsigned i = 0; i < PAGE; i++) {
		uint8_t hash[32];
		unsigned n = nr * PAGE + i;

		ok(kdf_sha256(&n, sizeof(n), hash));
		bytes_to_hex(hash, sizeof(hash), id);
		snprintf(name, sizeof(name), "%0*u", LONG, n);
		page[i] = file_record(id, "root", name, id, n + 1);
	}
}

static uint64_t names(struct tree_fixture *f)
{
	uint64_t n;

	db_read(f->v->db);
	ok(name_count(f->v->db, f->store, &n));
	db_unlock(f->v->db);
	return n;
}

static uint64_t taken;

static int add_blocks(const char *path, const struct stat *st, int type, struct FTW *at)
{
	taken += type == FTW_F ? (uint64_t)st->st_blocks * 512 : 0;
	return 0;
}

/* P11: names are bytes, too. */
static void a_feed_larger_than_the_bound_stops_before_it(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record *page = calloc(PAGE, sizeof(*page));
	struct remote_report report;
	unsigned nr = 0;
	int r = 0;

	assert_non_null(page);
	f->limit = VOLUME_LIMIT_MIN_BYTES;
	tf_reopen(f);
	while (!r && nr < PAGES) {
		make_page(page, nr);
		r = remote_apply(f->v, f->store, page, PAGE, "next", false, &report);
		taken = 0;
		nftw(f->dir, add_blocks, 16, FTW_PHYS);
		assert_true(taken <= VOLUME_LIMIT_MIN_BYTES);
		nr += !r;
	}
	assert_int_equal(r, -ENOSPC);
	assert_true(nr > 0);
	assert_int_equal(names(f), nr * PAGE);
	/* What only removes goes on, and makes room. */
	make_page(page, 0);
	for (unsigned i = 0; i < PAGE; i++)
		page[i] = gone_record(page[i].id, (uint64_t)(nr + 1) * PAGE + i);
	ok(remote_apply(f->v, f->store, page, PAGE, "next", true, &report));
	assert_int_equal(names(f), (nr - 1) * PAGE);
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(parents_may_come_in_any_order),
		tf_test(an_identical_etag_changes_nothing),
		tf_test(new_content_is_a_new_version_and_new_attributes_are_not),
		tf_test(two_records_change_places_in_one_page),
		tf_test(directories_that_change_their_order_do),
		tf_test(a_loop_never_comes_to_stand),
		tf_test(a_parent_that_is_a_file_is_no_parent),
		tf_test(a_local_file_that_was_never_sent_gives_way),
		tf_test(a_local_directory_becomes_the_record_of_its_name),
		tf_test(a_file_that_is_written_waits),
		tf_test(it_is_tried_again_in_the_last_of_many_stores),
		tf_test(a_tombstone_removes_and_unsent_work_inside_brings_back),
		tf_test(a_directory_goes_when_its_children_have_moved),
		tf_test(the_brake_holds_mass_deletions),
		tf_test(a_listing_sweeps_what_it_did_not_have),
		tf_test(an_empty_listing_is_held),
		tf_test(a_late_page_does_not_turn_our_change_back),
		tf_test(our_own_echo_acknowledges),
		tf_test(an_echo_of_another_content_is_none),
		tf_test(the_observer_hears_of_what_the_kernel_did_not_do),
		tf_test(a_remote_change_of_one_name_breaks_the_link),
		tf_test(hostile_records_are_refused),
		tf_test(a_printed_record_reads_back),
		tf_test(a_directory_that_becomes_a_file_waits_for_what_is_in_it),
		tf_test(the_same_record_twice_in_a_page_is_the_last),
		tf_test(names_of_conflict_copies_fit_and_do_not_clash),
		tf_test(a_feed_larger_than_the_bound_stops_before_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
