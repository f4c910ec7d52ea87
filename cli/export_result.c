#include "cli/export_result.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/json.h"
#include "cli/show.h"
#include "crypto/bundle.h"

#define KEY_TEXT_LEN ((size_t)2 * BUNDLE_KEY_LEN)
#define WARNING "Store this key securely. Without it, the encrypted data cannot be decrypted."

/* `before` key `after`, to standard output, through no buffer that is not wiped. */
static int print_key(const struct export_result *x, const char *before, const char *after)
{
	_cleanup_secret_ struct secret *text = NULL;
	int r = secret_new(KEY_TEXT_LEN + 1, &text);

	if (r)
		return r;
	bytes_to_hex(secret_cbytes(x->key), BUNDLE_KEY_LEN, (char *)secret_bytes(text));
	if (fflush(stdout))
		return -errno;
	r = io_write_full(STDOUT_FILENO, before, strlen(before));
	if (!r)
		r = io_write_full(STDOUT_FILENO, secret_cbytes(text), KEY_TEXT_LEN);
	return r ? r : io_write_full(STDOUT_FILENO, after, strlen(after));
}

static int print_sealed(const struct export_result *x)
{
	uint8_t data[4096];
	char hex[2 * sizeof(data) + 1];
	off_t at = 0;

	printf(",\"encrypted_data\":\"");
	for (;;) {
		ssize_t n = pread(x->form->fd, data, sizeof(data), at);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		bytes_to_hex(data, (size_t)n, hex);
		fputs(hex, stdout);
		at += n;
	}
	printf("\"");
	return ferror(stdout) ? -EIO : 0;
}

/* The file's text is the member. */
static int print_records(const struct export_result *x)
{
	char text[4096];
	off_t at = 0;
	ssize_t n;

	printf(",\"records\":");
	while ((n = pread(x->form->fd, text, sizeof(text), at)) > 0) {
		fwrite(text, 1, (size_t)n, stdout);
		at += n;
	}
	return n < 0 ? -errno : 0;
}

static int print_json(const struct export_result *x)
{
	_cleanup_json_ struct json *o = json_new_object();
	_cleanup_free_ char *text = NULL;
	const char *path = x->form->path, *slash = path ? strrchr(path, '/') : NULL;
	int r;

	json_set_bool(o, "ok", true);
	json_set_string(o, "filename", slash ? slash + 1 : path ? path : x->name);
	json_set_string(o, "warning", WARNING);
	json_set_u64(o, "files", x->totals->files);
	json_set_u64(o, "bytes", x->totals->bytes);
	json_set_u64(o, "skipped", x->totals->skipped);
	r = json_print(o, false, &text);
	if (r)
		return r;
	text[strlen(text) - 1] = '\0'; /* the brace comes last */
	fputs(text, stdout);
	r = print_key(x, ",\"encryption_key\":\"", "\"");
	if (!r && x->content != EXPORT_RESULT_KEY)
		r = x->content == EXPORT_RESULT_SEALED ? print_sealed(x) : print_records(x);
	puts("}");
	return !r && fflush(stdout) ? -errno : r;
}

static int print(const struct export_result *x)
{
	char files[SHOW_MAX], skipped[SHOW_MAX], bytes[SHOW_MAX];

	printf("sealed    %s, %s, in ", show_count(x->totals->files, "file", "files", files),
		show_bytes(x->totals->bytes, bytes));
	show_text(stdout, x->form->path);
	putchar('\n');
	if (x->totals->skipped)
		printf("left out  %s\n", show_count(x->totals->skipped, "socket, fifo or device",
						 "sockets, fifos and devices", skipped));
	return print_key(x, "key       ", "\n" WARNING "\n");
}

int export_result_print(const struct export_result *x)
{
	return x->common->json ? print_json(x) : print(x);
}
