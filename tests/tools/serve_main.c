/*
 * The server alone, for its own tests: the same options as `cachet serve`, plus bounds a test wants
 * small.
 *
 *     serve_main DIR --listen 127.0.0.1:0 [--port-file F] [--max-record-bytes N]
 * [--max-request-bytes N]
 *                [--header-timeout S] [--body-grace S] [--tls-cert F --tls-key F]
 *     serve_main token add --account A [--store S] [--read-only] DIR
 *     serve_main store add NAME DIR
 *     serve_main import --store S DIR SRC
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/io.h"
#include "base/options.h"
#include "base/secret.h"
#include "server/server.h"

struct args {
	const char *listen, *port_file, *account, *store, *cert, *key;
	uint64_t max_record_bytes, max_request_bytes, header_timeout, body_grace, threads;
	bool read_only, json;
};

static const struct option_def options[] = {
	{ "listen", 0, OPTION_STRING, offsetof(struct args, listen), .arg = "ADDR",
		.help = "address" },
	{ "port-file", 0, OPTION_STRING, offsetof(struct args, port_file), .arg = "FILE",
		.help = "port goes here" },
	{ "account", 0, OPTION_STRING, offsetof(struct args, account), .arg = "NAME",
		.help = "account" },
	{ "store", 0, OPTION_STRING, offsetof(struct args, store), .arg = "NAME", .help = "store" },
	{ "tls-cert", 0, OPTION_STRING, offsetof(struct args, cert), .arg = "FILE",
		.help = "certificate" },
	{ "tls-key", 0, OPTION_STRING, offsetof(struct args, key), .arg = "FILE",
		.help = "its key" },
	{ "read-only", 0, OPTION_FLAG, offsetof(struct args, read_only),
		.help = "token may not write" },
	{ "max-record-bytes", 0, OPTION_U64, offsetof(struct args, max_record_bytes), .arg = "N",
		.help = "bytes" },
	{ "max-request-bytes", 0, OPTION_U64, offsetof(struct args, max_request_bytes), .arg = "N",
		.help = "bytes" },
	{ "header-timeout", 0, OPTION_U64, offsetof(struct args, header_timeout), .arg = "S",
		.help = "seconds" },
	{ "body-grace", 0, OPTION_U64, offsetof(struct args, body_grace), .arg = "S",
		.help = "seconds" },
	{ "threads", 0, OPTION_U64, offsetof(struct args, threads), .arg = "N", .help = "threads" },
	{"json", 0, OPTION_FLAG, offsetof(struct args, json), .help = "always so"},
	OPTION_END,
};

static int report(int r, char *error)
{
	if (r)
		fprintf(stderr, "serve_main: %s\n", error ? error : error_text(r));
	free(error);
	return r ? 1 : 0;
}

static int write_port(const char *path, uint16_t port)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u\n", port);

	return io_publish(AT_FDCWD, path, text, (size_t)n, 0600);
}

static int serve(const struct args *a, const char *dir)
{
	const struct server_options o = {
		.dir = dir,
		.listen = a->listen ? a->listen : "127.0.0.1:0",
		.tls_cert = a->cert,
		.tls_key = a->key,
		.max_record_bytes = a->max_record_bytes,
		.max_request_bytes = a->max_request_bytes,
		.header_timeout_s = (unsigned)a->header_timeout,
		.body_grace_s = (unsigned)a->body_grace,
		.threads = (unsigned)a->threads,
	};
	struct server *s = NULL;
	char *error = NULL;
	sigset_t set;
	int sig, r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = server_open(&o, &s, &error);
	if (!r)
		r = server_start(s, &error);
	if (!r && a->port_file)
		r = write_port(a->port_file, server_port(s));
	if (!r) {
		sigwait(&set, &sig);
		server_stop(s, 2000);
	}
	server_free(s);
	return report(r, error);
}

static int add_token(const struct args *a, const char *dir)
{
	const struct server_token_options o = {
		.account = a->account ? a->account : "test",
		.stores = a->store,
		.read_only = a->read_only,
	};
	char *token = NULL, *error = NULL;
	int r = server_token_add(dir, &o, &token, &error);

	if (!r)
		printf("%s\n", token);
	free(token);
	return report(r, error);
}

static int import(const struct args *a, const char *dir, const char *from)
{
	struct server_import_report done;
	char *error = NULL;
	int r = server_import(dir, a->store ? a->store : "main", from, &done, &error);

	if (!r)
		printf("{\"files\":%llu,\"directories\":%llu,\"symlinks\":%llu,\"bytes\":%llu,"
		       "\"skipped\":%llu}\n",
			(unsigned long long)done.files, (unsigned long long)done.dirs,
			(unsigned long long)done.symlinks, (unsigned long long)done.bytes,
			(unsigned long long)done.skipped);
	return report(r, error);
}

int main(int argc, char **argv)
{
	struct args a = { 0 };
	char *error = NULL;
	int first, n, r = secret_init(false);

	if (!r)
		r = options_parse(options, &a, argc, argv, &first, &error);
	if (r)
		return report(r, error);
	n = argc - first;
	argv += first;
	if (n == 3 && !strcmp(argv[0], "token"))
		return add_token(&a, argv[2]);
	if (n == 4 && !strcmp(argv[0], "store")) {
		r = server_store_add(argv[3], argv[2], &error);
		return report(r, error);
	}
	if (n == 3 && !strcmp(argv[0], "import"))
		return import(&a, argv[1], argv[2]);
	return n == 1 ? serve(&a, argv[0]) : 2;
}
