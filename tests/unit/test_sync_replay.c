/* The pure parts of the replay: order, what an answer means for an operation, the body of a batch.
 */
#include "sync/replay_priv.h"

#include <errno.h>

#include "base/error.h"
#include "sync/records_priv.h"
#include "unit.h"

static struct outbox_op op_of(
	enum outbox_kind kind, const char *rid, const char *parent, const char *name)
{
	static uint64_t seq;
	struct outbox_op op = {
		.seq = ++seq, .store = 1, .kind = kind, .attempts = 1, .after = -1
	};

	snprintf(op.rid, sizeof(op.rid), "%s", rid);
	snprintf(op.parent, sizeof(op.parent), "%s", parent);
	snprintf(op.name, sizeof(op.name), "%s", name);
	return op;
}

/* --- order --- */

static bool goes_after(const struct outbox_op *later, const struct outbox_op *earlier)
{
	const struct replay_keys a = replay_order_keys(later), b = replay_order_keys(earlier);

	return replay_order_after(&a, &b);
}

static void a_file_waits_for_its_directory(void **state)
{
	struct outbox_op dir = op_of(OUTBOX_PUT, "d", "root", "dir"),
			 file = op_of(OUTBOX_PUT, "f", "d", "file");
	struct outbox_op other = op_of(OUTBOX_PUT, "g", "root", "other");

	assert_true(goes_after(&file, &dir));
	assert_false(goes_after(&other, &dir));
	assert_false(goes_after(&other, &file));
}

static void one_record_and_one_place_are_never_touched_by_two_at_once(void **state)
{
	struct outbox_op put = op_of(OUTBOX_PUT, "f", "", ""),
			 attr = op_of(OUTBOX_ATTR, "f", "", "");
	struct outbox_op gone = op_of(OUTBOX_DELETE, "x", "root", "name"),
			 new = op_of(OUTBOX_PUT, "y", "root", "name");
	struct outbox_op move = op_of(OUTBOX_MOVE, "m", "root", "elsewhere");

	snprintf(move.other_rid, sizeof(move.other_rid), "f");
	assert_true(goes_after(&attr, &put));
	assert_true(goes_after(&new, &gone));
	assert_true(goes_after(&move, &put));
	assert_true(goes_after(&put, &move));
}

static void a_directory_goes_after_what_was_in_it(void **state)
{
	struct outbox_op child = op_of(OUTBOX_DELETE, "c", "d", "child"),
			 dir = op_of(OUTBOX_DELETE, "d", "root", "dir");

	assert_true(goes_after(&dir, &child));
}

static void stores_do_not_wait_for_each_other(void **state)
{
	struct outbox_op a = op_of(OUTBOX_PUT, "same", "root", "n"),
			 b = op_of(OUTBOX_PUT, "same", "root", "n");

	b.store = 2;
	assert_false(goes_after(&b, &a));
}

/* --- verdicts --- */

static struct remote_record record_of(const char *id)
{
	struct remote_record r = { .kind = REMOTE_FILE, .mode = 0644, .mtime_ns = 7 };

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.parent, sizeof(r.parent), "root");
	snprintf(r.name, sizeof(r.name), "n");
	snprintf(r.etag, sizeof(r.etag), "\"2\"");
	return r;
}

static struct replay_op put_abc(void)
{
	struct replay_op o = { .op = op_of(OUTBOX_PUT, "f", "root", "n") };

	o.op.node_kind = REMOTE_FILE;
	o.op.size = 3;
	o.op.mode = 0644;
	o.op.mtime_ns = 7;
	o.content = "abc";
	return o;
}

static struct remote_record record_abc(void)
{
	struct remote_record r = record_of("f");

	r.size = 3;
	r.has_sha256 = true;
	crypto_hash_sha256(r.sha256, (const unsigned char *)"abc", 3);
	return r;
}

static enum replay_verdict judged(
	struct replay_op *o, int code, int status, const char *type, const struct remote_record *r)
{
	struct origin_outcome outcome = { .result = { .code = code, .status = status },
		.record = r };

	snprintf(outcome.result.type, sizeof(outcome.result.type), "%s", type);
	replay_settle_judge(o, &outcome);
	return o->verdict;
}

static void a_confirmation_counts_when_the_content_is_ours(void **state)
{
	struct replay_op o = put_abc();
	struct remote_record r = record_abc();

	assert_int_equal(judged(&o, 0, 201, "", &r), REPLAY_ACK);
	r.sha256[5] ^= 1;
	o = put_abc();
	assert_int_equal(judged(&o, 0, 201, "", &r), REPLAY_REFUSE);
	r = record_abc();
	r.size = 4;
	o = put_abc();
	assert_int_equal(judged(&o, 0, 201, "", &r), REPLAY_REFUSE);
	r = record_abc();
	r.has_sha256 = false;
	o = put_abc();
	assert_int_equal(judged(&o, 0, 201, "", &r), REPLAY_REFUSE);
}

static void a_confirmation_of_another_record_does_not_count(void **state)
{
	struct replay_op o = put_abc();
	struct remote_record r = record_abc();

	snprintf(r.id, sizeof(r.id), "g");
	assert_int_equal(judged(&o, 0, 201, "", &r), REPLAY_RETRY);
	o = put_abc();
	assert_int_equal(judged(&o, 0, 200, "", NULL), REPLAY_RETRY);
	r = record_abc();
	r.kind = REMOTE_DIR;
	o = put_abc();
	assert_int_equal(judged(&o, 0, 201, "", &r), REPLAY_RETRY);
}

/* Removed here while the answer was on its way: what it was is not known any more. */
static void a_move_of_what_is_gone_here_is_confirmed(void **state)
{
	struct replay_op o = { .op = op_of(OUTBOX_MOVE, "f", "root", "n") };
	struct remote_record r = record_abc();

	o.op.node_kind = REMOTE_DIR;
	assert_int_equal(judged(&o, 0, 200, "", &r), REPLAY_ACK);
}

static void a_first_412_is_a_conflict_and_a_repeated_one_may_be_ourselves(void **state)
{
	struct replay_op o = put_abc();
	struct remote_record r = record_abc();

	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
	o = put_abc();
	o.op.attempts = 2;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_ACK);
	r.sha256[0] ^= 1;
	o = put_abc();
	o.op.attempts = 2;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
}

static void a_412_that_carries_our_key_is_ourselves(void **state)
{
	struct replay_op o = put_abc();
	struct remote_record r = record_of("f");

	memset(o.op.key, 9, sizeof(o.op.key));
	memset(r.key, 9, sizeof(r.key));
	r.has_key = true;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_ACK);
	r.key[0] = 0;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
}

/* Where it is says nothing of its mode, and its mode nothing of where it is. */
static void a_412_of_a_repeated_move_or_attr_is_settled(void **state)
{
	struct replay_op o = { .op = op_of(OUTBOX_MOVE, "f", "root", "n") };
	struct remote_record r = record_of("f");

	o.op.attempts = 2;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
	o.op = op_of(OUTBOX_ATTR, "f", "", "");
	o.op.attempts = 2;
	o.op.mode = 0644;
	o.op.mtime_ns = 7;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
}

static void a_move_to_where_another_put_it_is_not_ours(void **state)
{
	struct replay_op o = { .op = op_of(OUTBOX_MOVE, "f", "root", "n") };
	struct remote_record r = record_of("f");

	memset(r.key, 5, sizeof(r.key));
	r.has_key = true;
	r.mode = 0600;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
	o.op.attempts = 2;
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
}

static void a_delete_of_what_is_gone_is_done(void **state)
{
	struct replay_op o = { .op = op_of(OUTBOX_DELETE, "f", "", "") };
	struct remote_record r = record_of("f");

	assert_int_equal(judged(&o, CE_GONE, 404, "no-record", NULL), REPLAY_ACK);
	assert_int_equal(judged(&o, CE_GONE, 410, "deleted", NULL), REPLAY_ACK);
	assert_int_equal(judged(&o, CE_GONE, 404, "no-store", NULL), REPLAY_RETRY);
	assert_int_equal(judged(&o, CE_CONFLICT, 412, "precondition", &r), REPLAY_SETTLE);
	r.deleted = true;
	assert_int_equal(judged(&o, 0, 200, "", &r), REPLAY_ACK);
}

static void an_edit_of_what_is_gone_is_settled(void **state)
{
	struct replay_op o = put_abc();

	assert_int_equal(judged(&o, CE_GONE, 410, "deleted", NULL), REPLAY_SETTLE);
	o = put_abc();
	assert_int_equal(judged(&o, CE_CONFLICT, 409, "no-parent", NULL), REPLAY_SETTLE);
}

static void credentials_are_not_the_operations_fault(void **state)
{
	struct replay_op o = put_abc();

	assert_int_equal(judged(&o, CE_AUTH, 401, "unauthorized", NULL), REPLAY_LEAVE);
}

static void what_will_never_be_taken_is_refused(void **state)
{
	struct replay_op o = put_abc();

	assert_int_equal(judged(&o, CE_REFUSED, 403, "forbidden", NULL), REPLAY_REFUSE);
	assert_int_equal(judged(&o, CE_REFUSED, 422, "key-reused", NULL), REPLAY_REFUSE);
	assert_int_equal(judged(&o, CE_TOO_LARGE, 413, "too-large", NULL), REPLAY_REFUSE);
	assert_int_equal(judged(&o, CE_TAMPER, 0, "", NULL), REPLAY_REFUSE);
}

static void what_may_pass_is_tried_again(void **state)
{
	struct replay_op o = put_abc();

	assert_int_equal(judged(&o, CE_OFFLINE, 0, "", NULL), REPLAY_RETRY);
	assert_int_equal(judged(&o, CE_PROTOCOL, 200, "", NULL), REPLAY_RETRY);
	assert_int_equal(judged(&o, -EAGAIN, 507, "no-space", NULL), REPLAY_RETRY);
	assert_in_range(o.delay_ms, 1, 1000);
	assert_int_equal(judged(&o, -EBUSY, 409, "in-progress", NULL), REPLAY_RETRY);
	assert_int_equal(o.delay_ms, 500);
	assert_int_equal(judged(&o, -EAGAIN, 424, "dependency", NULL), REPLAY_RETRY);
	assert_in_range(o.delay_ms, 1, 1000);
}

static void a_directory_that_is_not_empty_comes_back_or_is_refused_in_the_end(void **state)
{
	struct replay_op o = { .op = op_of(OUTBOX_DELETE, "d", "", "") };
	struct remote_record r = record_of("d");

	assert_int_equal(judged(&o, CE_REFUSED, 409, "not-empty", &r), REPLAY_SETTLE);
	assert_int_equal(judged(&o, CE_REFUSED, 409, "not-empty", NULL), REPLAY_RETRY);
	o.op.attempts = 50;
	assert_int_equal(judged(&o, CE_REFUSED, 409, "not-empty", NULL), REPLAY_REFUSE);
}

static void a_move_that_would_make_a_loop_is_settled_with_the_record_as_it_is(void **state)
{
	struct replay_op o = { .op = op_of(OUTBOX_MOVE, "d", "e", "d") };
	struct remote_record own = record_of("d"), parent = record_of("e");

	assert_int_equal(judged(&o, CE_REFUSED, 409, "loop", &own), REPLAY_SETTLE);
	assert_int_equal(judged(&o, CE_REFUSED, 409, "loop", NULL), REPLAY_REFUSE);
	assert_int_equal(judged(&o, CE_REFUSED, 409, "not-a-directory", &parent), REPLAY_REFUSE);
}

/* --- bodies --- */

static void a_batch_carries_content_order_and_preconditions(void **state)
{
	struct outbox_op dir = op_of(OUTBOX_PUT, "d", "root", "dir"),
			 file = op_of(OUTBOX_PUT, "f", "d", "q\"uo\\te");
	struct outbox_op gone = op_of(OUTBOX_DELETE, "x", "", "");
	const uint16_t after[] = { 0 };
	struct origin_op ops[] = { { .op = &dir, .content = "" },
		{ .op = &file, .content = "a\0c", .after = after, .after_n = 1 },
		{ .op = &gone, .content = "" } };
	_cleanup_(buffer_done) struct buffer b = { 0 };
	_cleanup_json_ struct json *j = NULL;
	const struct json *list, *item;
	const char *text;
	uint8_t content[3];

	dir.node_kind = REMOTE_DIR;
	file.size = 3;
	snprintf(gone.if_match, sizeof(gone.if_match), "\"7\"");
	assert_int_equal(records_body_batch(ops, 3, &b), 0);
	assert_int_equal(json_parse(b.data, b.len, &j), 0);
	assert_int_equal(json_get_array(j, "ops", &list), 0);
	assert_int_equal(json_count(list), 3);
	item = json_first(list);
	assert_int_equal(json_get_string(item, "kind", &text), 0);
	assert_string_equal(text, "dir");
	assert_false(json_has(item, "content"));
	assert_int_equal(json_get_string(item, "if_none_match", &text), 0);
	item = json_next(item);
	assert_int_equal(json_get_bytes(item, "content", content, 3), 0);
	assert_memory_equal(content, "a\0c", 3);
	assert_int_equal(json_get_string(item, "name", &text), 0);
	assert_string_equal(text, "q\"uo\\te");
	assert_int_equal(json_get_array(item, "after", &list), 0);
	assert_int_equal(json_count(list), 1);
	item = json_next(item);
	assert_int_equal(json_get_string(item, "op", &text), 0);
	assert_string_equal(text, "delete");
	assert_int_equal(json_get_string(item, "if_match", &text), 0);
	assert_string_equal(text, "\"7\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_waits_for_its_directory),
		cmocka_unit_test(one_record_and_one_place_are_never_touched_by_two_at_once),
		cmocka_unit_test(a_directory_goes_after_what_was_in_it),
		cmocka_unit_test(stores_do_not_wait_for_each_other),
		cmocka_unit_test(a_confirmation_counts_when_the_content_is_ours),
		cmocka_unit_test(a_confirmation_of_another_record_does_not_count),
		cmocka_unit_test(a_move_of_what_is_gone_here_is_confirmed),
		cmocka_unit_test(a_first_412_is_a_conflict_and_a_repeated_one_may_be_ourselves),
		cmocka_unit_test(a_412_that_carries_our_key_is_ourselves),
		cmocka_unit_test(a_412_of_a_repeated_move_or_attr_is_settled),
		cmocka_unit_test(a_move_to_where_another_put_it_is_not_ours),
		cmocka_unit_test(a_delete_of_what_is_gone_is_done),
		cmocka_unit_test(an_edit_of_what_is_gone_is_settled),
		cmocka_unit_test(credentials_are_not_the_operations_fault),
		cmocka_unit_test(what_will_never_be_taken_is_refused),
		cmocka_unit_test(what_may_pass_is_tried_again),
		cmocka_unit_test(a_directory_that_is_not_empty_comes_back_or_is_refused_in_the_end),
		cmocka_unit_test(a_move_that_would_make_a_loop_is_settled_with_the_record_as_it_is),
		cmocka_unit_test(a_batch_carries_content_order_and_preconditions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
