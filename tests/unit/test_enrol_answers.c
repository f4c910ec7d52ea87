/* Goal: a server can refuse, lie or fall silent at any message; what follows is what its signed
 * word allows, and a volume that opened keeps opening. */
#include "enrol_fixture.h"

/* Bytes of zeros in base64, and a name that is too long. */
#define A_21 "AAAAAAAAAAAAAAAAAAAAA"
#define ZEROS_32 "\"" A_21 A_21 "A=\""
#define ZEROS_48 "\"" A_21 A_21 A_21 "A\""
#define ZEROS_64 "\"" A_21 A_21 A_21 A_21 "AA==\""
#define NAME_129 "\"" A_21 A_21 A_21 A_21 A_21 A_21 "AAA\""

/* --- spoiled answers --- */

struct spoiled {
	const char *in, *key; /* the member, of the object `in` or of the answer itself */
	const char *text;     /* what stands there instead; NULL: nothing */
	int code;
	const char *words;
};
static const struct spoiled *now;

static struct json *with_member(const struct json *obj, const char *key, const struct json *v)
{
	struct json *out = json_new_object();

	for (const struct json *m = json_first(obj); m; m = json_next(m))
		if (strcmp(json_key(m), key) != 0)
			json_set_copy(out, json_key(m), m);
	if (v)
		json_set_copy(out, key, v);
	return out;
}

static void replace(struct json **obj, const char *key, const struct json *v)
{
	struct json *out = with_member(*obj, key, v);

	json_free(*obj);
	*obj = out;
}

static void spoil(struct json **answer)
{
	_cleanup_json_ struct json *v = NULL, *inner = NULL;
	const struct json *old;

	if (now->text)
		ok(json_parse(now->text, strlen(now->text), &v));
	if (!now->in) {
		if (json_has(*answer, now->key) || v)
			replace(answer, now->key, v);
		return;
	}
	if (json_get(*answer, now->in, &old))
		return;
	inner = with_member(old, now->key, v);
	replace(answer, now->in, inner);
}

static void an_answer_that_is_spoiled_changes_nothing(void **state)
{
	static const struct spoiled rows[] = {
		{ NULL, "kid", NULL, CE_FORMAT, "'kid' is missing" },
		{ NULL, "kid", "7", CE_FORMAT, "'kid' is missing" },
		{ NULL, "kid", "\"\"", CE_FORMAT, "printable" },
		{ NULL, "kid", "\"kek 0\"", CE_FORMAT, "printable" },
		{ NULL, "kid", "\"kek\\u007f\"", CE_FORMAT, "printable" },
		{ NULL, "kid", NAME_129, CE_FORMAT, "printable" },
		{ NULL, "kid", "\"kek-9\"", CE_TAMPER, "the signature" },
		{ NULL, "currentKid", "\"\"", CE_FORMAT, "'currentKid'" },
		{ NULL, "offline_ttl", "-1", CE_FORMAT, "'offline_ttl'" },
		{ NULL, "offline_ttl", "\"1h\"", CE_FORMAT, "'offline_ttl'" },
		{ NULL, "offline_ttl", "1e300", CE_FORMAT, "'offline_ttl'" },
		{ NULL, "expiresAt", "\"soon\"", CE_FORMAT, "'expiresAt'" },
		{ NULL, "wrappedKEK", NULL, CE_FORMAT, "'wrappedKEK' is missing" },
		{ NULL, "wrappedKEK", "7", CE_FORMAT, "alg" },
		{ "wrappedKEK", "alg", NULL, CE_FORMAT, "alg" },
		{ "wrappedKEK", "alg", "\"none\"", CE_FORMAT, "alg" },
		{ "wrappedKEK", "eph_pub", NULL, CE_FORMAT, "eph_pub is not 65" },
		{ "wrappedKEK", "eph_pub", ZEROS_64, CE_FORMAT, "eph_pub is not 65" },
		{ "wrappedKEK", "iv", "\"AAAA\"", CE_FORMAT, "iv is not 12" },
		{ "wrappedKEK", "ct", ZEROS_32, CE_FORMAT, "ct is not 48" },
		{ "wrappedKEK", "ct", ZEROS_48, CE_TAMPER, "the signature" },
		{ "wrappedKEK", "salt", "\"?\"", CE_FORMAT, "salt is not 16" },
		{ NULL, "signature", NULL, CE_FORMAT, "'signature' is missing" },
		{ NULL, "signature", ZEROS_32, CE_FORMAT, "not 64 bytes" },
		{ NULL, "signature", ZEROS_64, CE_TAMPER, "the signature" },
	};
	struct fixture *x = *state;
	struct volume_keys_status before, after;
	char *error;

	volume_keys_status(x->f.v, &before);
	for (now = rows; now < rows + ARRAY_SIZE(rows); now++) {
		enrol_server.spoil = spoil;
		expect(renew(x, false, &error), &error, now->code, now->words);
		volume_keys_status(x->f.v, &after);
		assert_memory_equal(&before, &after, sizeof(before));
		enrol_server.spoil = NULL;
	}
	ok(renew(x, false, &error));
	reopen(x, NULL);
}

static void off_the_curve(struct enroll_wrapped *w)
{
	w->eph_pub[40] ^= 1;
}

static void with_another_tag(struct enroll_wrapped *w)
{
	w->ct[47] ^= 1;
}

static void with_another_salt(struct enroll_wrapped *w)
{
	w->salt[0] ^= 1;
}

/* The server, or who has its signing key, made the mistake. */
static void what_is_signed_and_wrong_is_refused_at_its_stage(void **state)
{
	struct fixture *x = *state;
	char *error;

	enrol_server.wrap = off_the_curve;
	expect(renew(x, false, &error), &error, CE_FORMAT, "enrolment failed at");
	enrol_server.wrap = with_another_tag;
	expect(renew(x, false, &error), &error, CE_TAMPER, "enrolment failed at");
	enrol_server.wrap = with_another_salt;
	expect(renew(x, false, &error), &error, CE_TAMPER, "enrolment failed at");
	enrol_server.wrap = NULL;
	ok(renew(x, false, &error));
}

static void an_answer_to_another_device_or_request_is_refused(void **state)
{
	struct fixture *x = *state;
	char *error;

	enrol_server.sign_as = "dk-7";
	expect(renew(x, false, &error), &error, CE_TAMPER, "the signature");
	enrol_server.sign_as = NULL;
	enrol_server.sign_old = true;
	expect(renew(x, false, &error), &error, CE_TAMPER, "the signature");
	enrol_server.sign_old = false;
	ok(renew(x, false, &error));
}

static void an_unwrapped_key_is_taken_only_where_the_configuration_says(void **state)
{
	static const struct spoiled shorter = { NULL, "rawKEK", "\"AAAA\"", CE_FORMAT, "" };
	const struct enrolment_link raw = { .post = enrol_server_post, .allow_raw = true };
	struct fixture *x = *state;
	char *error = NULL;

	enrol_server.raw = true;
	expect(renew(x, false, &error), &error, CE_REFUSED, "rawKEK");
	reopen(x, &raw);
	now = &shorter;
	enrol_server.spoil = spoil;
	expect(volume_renew_keys(x->f.v, &raw, false, &error), &error, CE_FORMAT, "not 32 bytes");
}

/* --- refusals --- */

static void a_status_is_told_with_what_the_server_says(void **state)
{
	static const struct spoiled detail = { NULL, "detail", "\"not\\u0020today\"", 0, NULL },
				    title = { NULL, "title", "\"a title\"", 0, NULL };
	static const struct {
		int status, code;
		const struct spoiled *says;
		const char *type, *words;
	} rows[] = {
		{ 400, CE_REFUSED, &detail, NULL, "answers 400: not today" },
		{ 401, CE_AUTH, &title, NULL, "answers 401: a title" },
		{ 403, CE_AUTH, NULL, "urn:cachet:forbidden", "answers 403: forbidden" },
		{ 404, CE_GONE, NULL, "about:blank", "answers 404: about:blank" },
		{ 410, CE_GONE, NULL, NULL, "answers 410: " },
		{ 429, -EAGAIN, NULL, NULL, "answers 429" },
		{ 503, -EAGAIN, NULL, NULL, "answers 503" },
	};
	struct fixture *x = *state;
	char *error;

	enrol_server.unsigned_refusal = true;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		enrol_server.status = rows[i].status;
		enrol_server.type = rows[i].type;
		now = rows[i].says;
		enrol_server.spoil = now ? spoil : NULL;
		expect(renew(x, false, &error), &error, rows[i].code, rows[i].words);
	}
	enrol_server.silent = CE_OFFLINE;
	expect(renew(x, true, &error), &error, CE_OFFLINE, error_text(CE_OFFLINE));
	be_honest();
	reopen(x, NULL);
}

/* Anybody between could say so. */
static void a_refusal_that_is_not_signed_erases_nothing(void **state)
{
	static const char *const types[] = { "urn:cachet:device-revoked",
		"urn:cachet:device-untrusted" };
	static const struct spoiled rows[] = { { NULL, "signature", NULL, 0, NULL },
		{ NULL, "signature", ZEROS_64, 0, NULL }, { NULL, "kid", NULL, 0, NULL },
		{ NULL, "kid", "\"kek-7\"", 0, NULL },
		{ NULL, "type", "\"device-gone\"", 0, NULL } };
	struct volume_keys_status s;
	struct fixture *x = *state;
	char *error;

	enrol_server.status = 403;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		enrol_server.type = types[i];
		for (now = rows; now < rows + ARRAY_SIZE(rows); now++) {
			enrol_server.spoil = spoil;
			assert_int_equal(renew(x, false, &error), CE_AUTH);
			free(error);
			volume_keys_status(x->f.v, &s);
			assert_false(s.revoked);
		}
		now = rows;
		reopen(x, &enrol_server_link); /* by the lease */
		volume_keys_status(x->f.v, &s);
		assert_true(s.from_lease);
	}
}

static void a_signed_word_of_another_matter_erases_nothing(void **state)
{
	static const struct spoiled revoked = { NULL, "type", "\"urn:cachet:device-revoked\"", 0,
		NULL };
	struct fixture *x = *state;
	char *error;

	enrol_server.status = 403;
	enrol_server.type = "urn:cachet:device-untrusted";
	now = &revoked;
	enrol_server.spoil = spoil;
	assert_int_equal(renew(x, false, &error), CE_AUTH);
	free(error);
}

static void an_untrusted_machine_stays_locked_and_untouched(void **state)
{
	struct fixture *x = *state;

	enrol_server.status = 403;
	enrol_server.type = "urn:cachet:device-untrusted";
	refuses_to_open(x, &enrol_server_link, CE_UNTRUSTED, "not to be trusted");
	be_honest();
	reopen(x, NULL);
}

/* --- revocation --- */

static void be_revoking(void)
{
	enrol_server.status = 403;
	enrol_server.type = "urn:cachet:device-revoked";
}

static int enrol(struct fixture *x, const char *token, char **error)
{
	_cleanup_secret_ struct secret *t = NULL;
	struct volume_enrol_options o = {
		.dir = x->f.dir, .key_source = x->f.source, .link = &enrol_server_link
	};

	*error = NULL;
	if (token)
		ok(secret_new_copy(token, strlen(token), &t));
	o.token = t;
	return volume_enrol(&o, error);
}

static void a_revoked_device_asks_no_more_and_has_nothing_left(void **state)
{
	struct volume_keys_status s;
	struct fixture *x = *state;
	unsigned asked;
	char *error;

	be_revoking();
	expect(renew(x, false, &error), &error, CE_REVOKED, "revoked this device");
	asked = enrol_server.asked;
	volume_keys_status(x->f.v, &s);
	assert_true(s.revoked);
	assert_int_equal(s.lease_until_s, 0);
	assert_true(volume_renew_keys_at_s(x->f.v) == INT64_MAX);
	expect(renew(x, false, &error), &error, CE_REVOKED, "revoked this device");
	expect(volume_check_device(x->f.v, &enrol_server_link, &error), &error, CE_REVOKED,
		"no key of its own");
	refuses_to_open(x, &enrol_server_link, CE_REVOKED, "cachet enroll");
	assert_int_equal(enrol_server.asked, asked);
	be_honest();
	expect(enrol(x, NULL, &error), &error, CE_GONE, "nothing of this volume was kept");
}

static void stay_local(struct fixture *x)
{
	struct store_row s;

	ok(db_begin(x->f.v->db));
	ok(store_get(x->f.v->db, x->f.store, &s));
	s.mode = STORE_LOCAL;
	ok(store_update(x->f.v->db, &s));
	ok(db_commit(x->f.v->db));
}

static void what_only_this_device_has_comes_back_with_its_enrolment(void **state)
{
	struct fixture *x = *state;
	struct volume_keys_status s;
	char *error;

	stay_local(x);
	be_revoking();
	expect(renew(x, false, &error), &error, CE_REVOKED, "revoked this device");
	refuses_to_open(x, NULL, CE_REVOKED, "cachet enroll");
	enrol_server.status = 0;
	enrol_server.type = NULL;
	ok(enrol(x, "another token", &error));
	reopen(x, &enrol_server_link);
	volume_keys_status(x->f.v, &s);
	assert_string_equal(s.dkid, "dk-1");
	assert_false(s.revoked);
	assert_memory_equal(secret_cbytes(x->f.v->enrolment->device->token), "another token", 13);
}

/* Nobody committed it yet. */
static void what_is_written_when_the_revocation_comes_is_kept(void **state)
{
	struct fixture *x = *state;
	struct file *file = cf_file(&x->f, x->object);
	char *error;

	stay_local(x);
	cf_write(file, SIZE, 0, 9);
	be_revoking();
	expect(renew(x, false, &error), &error, CE_REVOKED, "revoked this device");
	file_unref(file, true);
	cf_close(&x->f);
	enrol_server.status = 0;
	enrol_server.type = NULL;
	ok(enrol(x, NULL, &error));
	ok(try_open(x, &enrol_server_link, &error));
	assert_true(cf_is(&x->f, x->object, SIZE, 9));
}

static void a_device_revoked_while_closed_keeps_no_lease(void **state)
{
	struct fixture *x = *state;
	char *error;

	be_revoking();
	refuses_to_open(x, &enrol_server_link, CE_REVOKED, "revoked this device");
	refuses_to_open(x, NULL, CE_REVOKED, "were erased");
	enrol_server.status = 0;
	ok(enrol(x, NULL, &error));
	reopen(x, NULL);
}

/* --- the device --- */

static void a_spoiled_enrolment_makes_no_volume(void **state)
{
	static const struct spoiled rows[] = {
		{ NULL, "dkid", NULL, CE_FORMAT, "'dkid' is missing" },
		{ NULL, "dkid", "\"../..\\n\"", CE_FORMAT, "printable" },
		{ NULL, "serverKey", NULL, CE_FORMAT, "'serverKey' is missing" },
		{ NULL, "serverKey", ZEROS_64, CE_FORMAT, "not 32 bytes" },
		{ NULL, "serverKey", ZEROS_32, CE_TAMPER, "the signature" },
		{ NULL, "dk_pub_sha256", NULL, CE_FORMAT, "'dk_pub_sha256' is missing" },
		{ NULL, "dk_pub_sha256", "\"00\"", CE_TAMPER, "another public key" },
	};
	struct fixture *x = *state;
	char *error;

	for (now = rows; now < rows + ARRAY_SIZE(rows); now++) {
		enrol_server.spoil = spoil;
		expect(create(x, &enrol_server_link, &error), &error, now->code, now->words);
		enrol_server.spoil = NULL;
		assert_int_not_equal(try_open(x, &enrol_server_link, &error), 0);
		free(error);
	}
	expect(create(x, NULL, &error), &error, CE_OFFLINE, "needs the server");
	ok(create(x, &enrol_server_link, &error));
}

static void a_server_with_another_signing_key_is_another_server(void **state)
{
	static const struct spoiled other = { NULL, "serverKey", ZEROS_32, CE_TAMPER,
		"not the one pinned" };
	struct fixture *x = *state;
	char *error = NULL;

	ok(volume_check_device(x->f.v, &enrol_server_link, &error));
	now = &other;
	enrol_server.spoil = spoil;
	expect(volume_check_device(x->f.v, &enrol_server_link, &error), &error, now->code,
		now->words);
	expect(enrol(x, NULL, &error), &error, CE_INUSE, "unmount it first");
	cf_close(&x->f);
	expect(enrol(x, NULL, &error), &error, now->code, now->words);
	enrol_server.spoil = NULL;
	reopen(x, NULL);
}

static void another_device_secret_opens_nothing_and_changes_nothing(void **state)
{
	struct fixture *x = *state;
	char kept[200];
	int fd;

	cf_close(&x->f);
	snprintf(kept, sizeof(kept), "%s.kept", x->f.key);
	ok(rename(x->f.key, kept));
	fd = open(x->f.key, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_equal(write(fd, "another secret, of 32 bytes too.", 32), 32);
	close(fd);
	refuses_to_open(x, &enrol_server_link, CE_WRONG_KEY, "device secret is not the one");
	ok(rename(kept, x->f.key));
	reopen(x, NULL);
}

static void one_at_a_time_talks_to_the_server(void **state)
{
	struct fixture *x = *state;
	struct enrolment *e = x->f.v->enrolment;
	_cleanup_secret_ struct secret *token = NULL;
	char *error = NULL;

	ok(secret_new_copy((const uint8_t *)"token", 5, &token));
	ok(enrolment_begin(e, &error));
	expect(renew(x, false, &error), &error, -EBUSY, "just now");
	expect(volume_check_device(x->f.v, &enrol_server_link, &error), &error, -EBUSY, "just now");
	assert_int_equal(enrolment_set_token(x->f.v, token), -EBUSY);
	enrolment_end(e);
	ok(enrolment_set_token(x->f.v, token));
	assert_true(secret_equal(e->device->token, token));
	reopen(x, NULL);
	assert_true(secret_equal(x->f.v->enrolment->device->token, token));
}

/* --- volumes without a server --- */

static void a_volume_without_a_server_has_none_to_ask(void **state)
{
	struct volume_keys_status s;
	struct fixture *x = *state;
	_cleanup_secret_ struct secret *token = NULL;
	char *error = NULL, with_server[200];

	snprintf(x->f.source, sizeof(x->f.source), "file:%s", x->f.key);
	cf_create(&x->f);
	cf_open(&x->f);
	expect(renew(x, false, &error), &error, CE_USAGE, "not one of the server's");
	expect(volume_check_device(x->f.v, &enrol_server_link, &error), &error, CE_REVOKED,
		"no key of its own");
	assert_true(volume_renew_keys_at_s(x->f.v) == INT64_MAX);
	assert_true(volume_lease_left_s(x->f.v) == INT64_MAX);
	volume_keys_status(x->f.v, &s);
	assert_false(s.server);
	ok(secret_new_copy((const uint8_t *)"token", 5, &token));
	ok(enrolment_set_token(x->f.v, token));
	snprintf(with_server, sizeof(with_server), "server:%s", x->f.source);
	strcpy(x->f.source, with_server);
	refuses_to_open(x, &enrol_server_link, CE_USAGE, "not made with a key of the server");
	assert_int_equal(enrol_server.asked, 0);
	expect(enrol(x, NULL, &error), &error, CE_USAGE, "not made with a key of the server");
	strcat(x->f.dir, "-none");
	assert_int_equal(enrol(x, NULL, &error), -ENOENT);
}

static int count_key(void *arg, const struct volume_key_info *k)
{
	unsigned *n = arg;

	assert_string_equal(k->store, strcmp(k->purpose, KEYRING_PURPOSE_INDEX) ? "records" : "");
	assert_string_equal(k->kid, "kek-0");
	return ++*n == 2 ? -ECANCELED : 0;
}

static void keys_are_told_with_the_names_of_their_stores(void **state)
{
	struct fixture *x = *state;
	unsigned n = 0;

	assert_int_equal(volume_keys_each(x->f.v, count_key, &n), -ECANCELED);
	assert_int_equal(n, 2);
	assert_true(volume_needs_server(x->f.source));
	assert_false(volume_needs_server("file:x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_answer_that_is_spoiled_changes_nothing),
		TEST(what_is_signed_and_wrong_is_refused_at_its_stage),
		TEST(an_answer_to_another_device_or_request_is_refused),
		TEST(an_unwrapped_key_is_taken_only_where_the_configuration_says),
		TEST(a_status_is_told_with_what_the_server_says),
		TEST(a_refusal_that_is_not_signed_erases_nothing),
		TEST(a_signed_word_of_another_matter_erases_nothing),
		TEST(an_untrusted_machine_stays_locked_and_untouched),
		TEST(a_revoked_device_asks_no_more_and_has_nothing_left),
		TEST(what_only_this_device_has_comes_back_with_its_enrolment),
		TEST(what_is_written_when_the_revocation_comes_is_kept),
		TEST(a_device_revoked_while_closed_keeps_no_lease),
		TEST_NEW(a_spoiled_enrolment_makes_no_volume),
		TEST(a_server_with_another_signing_key_is_another_server),
		TEST(another_device_secret_opens_nothing_and_changes_nothing),
		TEST(one_at_a_time_talks_to_the_server),
		TEST_NEW(a_volume_without_a_server_has_none_to_ask),
		TEST(keys_are_told_with_the_names_of_their_stores),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
