/*
 * The change feed and its long poll.
 *
 * A poll without news is suspended and put on a list; server_feed_changed() (from the writer, after
 * a commit) resumes those of the stores that changed, server_feed_tick() those whose time is over
 * and those whose store another process changed. The query is made again after each resume, so
 * waking too often costs a query and loses nothing. `generation` closes the gap between the query
 * and the list: it counts commits, and a poll that sees it moved queries again.
 *
 * Cursors: TAG.SEQ.BASE.QUERIES. TAG marks the epoch. QUERIES is the store's queries_seq: where it is
 * another, the page says that the queries changed; absent in cursors of before schema 5: 0. BASE is the highest number of a forgotten tombstone
 * when this client started from nothing: it cannot have what was deleted before. So a cursor is
 * good while the store has forgotten no tombstone beyond max(SEQ, BASE).
 *
 * Threads: any.
 */
#ifndef CACHET_SERVER_FEED_H
#define CACHET_SERVER_FEED_H

#include "server/records.h"
#include "server/server_priv.h"

int server_feed_new(struct server *s, struct feed **out) MUST_CHECK;
void server_feed_free(struct feed *f);
/* For commit_options.changed. */
void server_feed_changed(void *feed, const struct store_row *stores, size_t n);
/* Several times a second. */
void server_feed_tick(struct feed *f);
/* Everybody waiting is answered now; nobody waits any more. */
void server_feed_stop(struct feed *f);

#endif
