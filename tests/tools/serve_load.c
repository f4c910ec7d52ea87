/*
 * Load on a Records server: N connections, each one request at a time, for S seconds.
 *
 *     serve_load PORT TOKEN STORE put|batch|get|poll CONNECTIONS SECONDS [BYTES]
 *
 * put: a new record of BYTES (default 200) per request. batch: 500 of them per request. get: the
 * first one over and over. Prints operations a second, and the median and 99th percentile of one
 * request in microseconds.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "base/clock.h"

#define BATCH 500
#define LATENCIES 2000000

static const char *token, *store, *what;
static uint16_t port;
static size_t bytes = 200;
static int64_t until_ns;

struct worker {
	pthread_t thread;
	int fd;
	unsigned n;
	uint64_t operations, failed, count;
	uint32_t *latency_us;
	struct buffer request;
	char *content, *base64;
};

static void die(const char *text)
{
	fprintf(stderr, "serve_load: %s\n", text);
	exit(1);
}

static void hex_random(char out[33])
{
	uint8_t raw[16];

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		die("no random bytes");
	bytes_to_hex(raw, sizeof(raw), out);
}

static int dial(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		die("cannot connect");
	return fd;
}

static void compose_put(struct worker *w)
{
	char id[33], key[33];

	hex_random(id);
	hex_random(key);
	if (buffer_printf(&w->request,
		    "PUT /v1/stores/%s/records/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
		    "%s\r\nIf-None-Match: *\r\n"
		    "Idempotency-Key: %s\r\nCachet-Device: %032x\r\nCachet-Seq: "
		    "%llu\r\nCachet-Parent: root\r\n"
		    "Cachet-Name: %u-%llu-%s\r\nContent-Length: %zu\r\n\r\n",
		    store, id, token, key, w->n, (unsigned long long)w->count, w->n,
		    (unsigned long long)w->count, key, bytes) ||
		buffer_append(&w->request, w->content, bytes))
		die("no memory");
	w->count++;
}

static void compose_batch(struct worker *w)
{
	struct buffer body = { 0 };
	int r = buffer_printf(&body, "{\"ops\":[");

	for (unsigned i = 0; !r && i < BATCH; i++) {
		char id[33], key[33];

		hex_random(id);
		hex_random(key);
		r = buffer_printf(&body,
			"%s{\"op\":\"put\",\"id\":\"%s\",\"key\":\"%s\",\"seq\":%llu,\"if_none_"
			"match\":\"*\",\"parent\":\"root\","
			"\"name\":\"%u-%llu-%s\",\"content\":\"%s\"}",
			i ? "," : "", id, key, (unsigned long long)w->count, w->n,
			(unsigned long long)w->count, key, w->base64);
		w->count++;
	}
	if (r || buffer_printf(&body, "]}") ||
		buffer_printf(&w->request,
			"POST /v1/stores/%s/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
			"%s\r\nCachet-Device: %032x\r\n"
			"Content-Length: %zu\r\n\r\n",
			store, token, w->n, body.len) ||
		buffer_append(&w->request, body.data, body.len))
		die("no memory");
	buffer_done(&body);
}

static void compose(struct worker *w)
{
	w->request.len = 0;
	if (!strcmp(what, "put"))
		compose_put(w);
	else if (!strcmp(what, "batch"))
		compose_batch(w);
	else if (buffer_printf(&w->request,
			 "GET /v1/stores/%s/records/%s HTTP/1.1\r\nHost: x\r\nAuthorization: "
			 "Bearer %s\r\n\r\n",
			 store, "hot", token))
		die("no memory");
}

/* One whole answer; its status. */
static unsigned receive(int fd)
{
	static __thread char buf[1 << 20];
	size_t have = 0, need = 0;
	unsigned status = 0;

	while (!need || have < need) {
		ssize_t n = recv(fd, buf + (need ? 0 : have),
			need ? sizeof(buf) : sizeof(buf) - have - 1, 0);
		char *end, *length;

		if (n <= 0)
			die("the server closed");
		have += (size_t)n;
		if (need)
			continue;
		buf[have] = 0;
		end = strstr(buf, "\r\n\r\n");
		if (!end)
			continue;
		length = strstr(buf, "Content-Length: ");
		if (sscanf(buf, "HTTP/1.1 %u", &status) != 1 || !length)
			die("not an answer");
		need = (size_t)(end + 4 - buf) + strtoull(length + 16, NULL, 10);
	}
	return status;
}

static void *run(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; clock_boot_ns() < until_ns && i < LATENCIES; i++) {
		int64_t at;
		size_t sent = 0;
		unsigned status;

		compose(w);
		at = clock_boot_ns();
		while (sent < w->request.len) {
			ssize_t n = send(
				w->fd, w->request.data + sent, w->request.len - sent, MSG_NOSIGNAL);

			if (n <= 0)
				die("cannot send");
			sent += (size_t)n;
		}
		status = receive(w->fd);
		w->latency_us[i] = (uint32_t)((clock_boot_ns() - at) / 1000);
		w->failed += status >= 300;
		w->operations++;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 6 ? (unsigned)atoi(argv[5]) : 0;
	struct worker *w = calloc(n + 1, sizeof(*w));
	uint64_t requests = 0, failed = 0, filled = 0;
	uint32_t *all;
	int64_t began;
	double s;

	if (!n || !w)
		die("serve_load PORT TOKEN STORE put|batch|get CONNECTIONS SECONDS [BYTES]");
	port = (uint16_t)atoi(argv[1]);
	token = argv[2];
	store = argv[3];
	what = argv[4];
	bytes = argc > 7 ? (size_t)atol(argv[7]) : bytes;
	began = clock_boot_ns();
	until_ns = began + atoi(argv[6]) * NS_PER_SEC;
	for (unsigned i = 0; i < n; i++) {
		w[i].n = i;
		w[i].fd = dial();
		w[i].latency_us = malloc(LATENCIES * sizeof(uint32_t));
		w[i].content = calloc(1, bytes + 1);
		if (!w[i].latency_us || !w[i].content ||
			bytes_to_base64((uint8_t *)w[i].content, bytes, &w[i].base64))
			die("no memory");
		pthread_create(&w[i].thread, NULL, run, &w[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		requests += w[i].operations;
		failed += w[i].failed;
	}
	s = (double)(clock_boot_ns() - began) / NS_PER_SEC;
	all = malloc((requests + 1) * sizeof(*all));
	for (unsigned i = 0; all && i < n; i++) {
		memcpy(all + filled, w[i].latency_us, w[i].operations * sizeof(*all));
		filled += w[i].operations;
	}
	if (!all || !requests)
		die("nothing was done");
	qsort(all, requests, sizeof(*all), compare);
	printf("%s: %.0f operations/s, %.0f requests/s, failed %llu, median %u us, p99 %u us\n",
		what, (double)requests * (strcmp(what, "batch") ? 1 : BATCH) / s,
		(double)requests / s, (unsigned long long)failed, all[requests / 2],
		all[requests * 99 / 100]);
	return failed != 0;
}
