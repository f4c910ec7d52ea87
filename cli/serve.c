#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "daemon/notify.h"
#include "daemon/signals.h"
#include "server/server.h"

#define STOP_GRACE_MS 5000
#define DAY_MS (86400 * 1000ULL)
#define OFFLINE_MS (72 * 3600 * 1000ULL)

struct args {
	struct command_common common;
	const char *listen, *port_file, *tls_cert, *tls_key;
	const char *jobs, *key_source;
	uint64_t max_record_bytes, kek_ms, offline_ms, keys_ms, tombstones_ms, keks_ms;
};

static const struct option_def options[] = {
	{ "listen", 'l', OPTION_STRING, offsetof(struct args, listen), .arg = "ADDR:PORT",
		.help = "where to listen; port 0 takes a free one (default: 127.0.0.1:8080)" },
	{ "port-file", 0, OPTION_STRING, offsetof(struct args, port_file), .arg = "FILE",
		.help = "write the port there once it listens" },
	{ "tls-cert", 0, OPTION_STRING, offsetof(struct args, tls_cert), .arg = "FILE",
		.help = "certificate chain (PEM); without it only loopback addresses are "
			"accepted" },
	{ "tls-key", 0, OPTION_STRING, offsetof(struct args, tls_key), .arg = "FILE",
		.help = "private key of the certificate (PEM)" },
	{ "max-record-bytes", 0, OPTION_BYTES, offsetof(struct args, max_record_bytes), .min = 1,
		.arg = "SIZE", .help = "largest record accepted (default: 16G)" },
	{ "key-source", 0, OPTION_STRING, offsetof(struct args, key_source), .arg = "SPEC",
		.help = "where the master key comes from, as file:PATH, command:COMMAND or "
			"systemd-creds:NAME (default: master.key in DIR, made at the first "
			"start)" },
	{ "kek-ttl", 0, OPTION_DURATION, offsetof(struct args, kek_ms), .min = 60000, .arg = "TIME",
		.help = "a device's key is good for so long, then it gets a new one (default: "
			"90d)" },
	{ "offline-ttl", 0, OPTION_DURATION, offsetof(struct args, offline_ms), .arg = "TIME",
		.help = "a device may go on so long without the server, 0 = never (default: "
			"72h)" },
	{ "jobs", 0, OPTION_STRING, offsetof(struct args, jobs), .arg = "FILE",
		.help = "types of jobs and their commands (JSON)" },
	{ "keep-keys", 0, OPTION_DURATION, offsetof(struct args, keys_ms), .min = 30 * DAY_MS,
		.arg = "TIME",
		.help = "idempotency keys are kept so long, 30d or more (default: 30d)" },
	{ "keep-tombstones", 0, OPTION_DURATION, offsetof(struct args, tombstones_ms),
		.min = 30 * DAY_MS, .arg = "TIME",
		.help = "deleted records are remembered so long, 30d or more (default: 90d)" },
	{ "keep-keks", 0, OPTION_DURATION, offsetof(struct args, keks_ms), .min = 30 * DAY_MS,
		.arg = "TIME",
		.help = "earlier keys of a device are kept so long after the next one was over, "
			"30d or more (default: 400d)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_serve = {
	.name = "serve",
	.usage = "[OPTIONS] DIR",
	.summary = "Serve the records kept in DIR to cachet volumes",
	.details =
		"DIR is made if it is missing; one server at a time has it. Stays in the "
		"foreground until SIGTERM or\n"
		"SIGINT, then answers what is under way and ends. SIGHUP reads certificate and key "
		"again, without\n"
		"dropping a connection. Make a token first: cachet serve token add.\n"
		"The page /admin administers it in a browser, with a token made by --admin.\n"
		"A DIR with the name of such a verb (token, store, audit ...) is written "
		"./token and so on.\n\n"
		"Exit codes: 8 another server has DIR, or the address is taken.\n",
	.options = options,
	.run = run,
};

static int write_port(const char *file, uint16_t port)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int dirfd = -1;
	char text[16], *slash;
	int r = target_absolute(file, &path);

	if (r)
		return r;
	slash = strrchr(path, '/');
	*slash = '\0';
	dirfd = open(*path ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	return io_publish(
		dirfd, slash + 1, text, (size_t)snprintf(text, sizeof(text), "%u\n", port), 0644);
}

static void announce(const struct args *args, const char *address, uint16_t port)
{
	const char *colon = strrchr(address, ':');
	int host_len = colon ? (int)(colon - address) : (int)strlen(address);
	const char *scheme = args->tls_cert ? "https" : "http";

	if (args->common.json)
		printf("{\"ok\":true,\"url\":\"%s://%.*s:%u\",\"port\":%u}\n", scheme, host_len,
			address, port, port);
	else
		printf("serving on %s://%.*s:%u\n", scheme, host_len, address, port);
	fflush(stdout);
	notify_ready();
}

static void reload(struct server *s)
{
	_cleanup_free_ char *error = NULL;

	notify_reloading();
	if (server_reload(s, &error))
		log_warning("not reloaded: %s", error ? error : "the certificate stays");
	notify_ready();
}

/* SIGHUP reloads; with a terminal it is that going away. */
static int until_stopped(struct server *s)
{
	bool foreground = isatty(STDIN_FILENO), hangup = false;
	int r = 0;

	while (!r) {
		r = signals_wait(&hangup);
		if (r || !hangup || foreground)
			break;
		reload(s);
	}
	return r;
}

static int serve(
	const struct args *args, const struct server_options *o, struct server *s, char **error)
{
	uint16_t port;
	int r = server_start(s, error);

	if (r)
		return r;
	port = server_port(s);
	r = args->port_file ? write_port(args->port_file, port) : 0;
	if (r)
		return r;
	announce(args, o->listen, port);
	r = until_stopped(s);
	notify_stopping();
	return r;
}

static int run(int argc, char **argv)
{
	struct args args = { .listen = "127.0.0.1:8080", .offline_ms = OFFLINE_MS };
	struct server_options o;
	struct server *s;
	_cleanup_free_ char *error = NULL;
	int first, r = command_parse(&command_serve, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	if (!args.tls_cert != !args.tls_key)
		return command_fail(
			&args.common, EXIT_CODE_USAGE, "--tls-cert and --tls-key go together");
	o = (struct server_options){
		.dir = argv[first],
		.listen = args.listen,
		.tls_cert = args.tls_cert,
		.tls_key = args.tls_key,
		.jobs_file = args.jobs,
		.max_record_bytes = args.max_record_bytes,
		.key_source = args.key_source,
		.keys_kept_days = (int64_t)(args.keys_ms / DAY_MS),
		.keks_kept_days = (int64_t)(args.keks_ms / DAY_MS),
		.tombstones_kept_days = (int64_t)(args.tombstones_ms / DAY_MS),
		.kek_ttl_s = (int64_t)(args.kek_ms / 1000),
		.offline_ttl_s = args.offline_ms < 1000 ? -1 : (int64_t)(args.offline_ms / 1000),
	};
	/* Before the server's threads: they inherit the mask. */
	r = signals_block();
	if (!r)
		r = server_open(&o, &s, &error);
	if (!r) {
		r = serve(&args, &o, s, &error);
		server_stop(s, STOP_GRACE_MS);
		server_free(s);
	}
	if (r)
		return command_failed(&args.common, r, error);
	return EXIT_CODE_OK;
}
