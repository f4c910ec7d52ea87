/*
 * A disk that forgets: the log of a recorder (record.c) is taken in entry by entry; at any point
 * disk_crash() writes one of the disks that a power cut there may leave: what was synced, and of
 * the rest a random part: writes by 512-byte sectors, names by prefixes of what happened in their
 * directory. What is below the root when the log begins must be nothing.
 */
#ifndef CACHET_TESTS_CRASH_DISK_H
#define CACHET_TESTS_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

/* The log is mapped and may grow. root_inode 0: only notes are wanted; the log may lack what a kill
 * cut off from its call. */
struct disk *disk_new(const char *log, uint64_t root_inode);
void disk_free(struct disk *d);
/* The next entry; false at the end. A note is handed out and changes nothing. */
bool disk_next(struct disk *d, const uint8_t **note, size_t *len);
/* Drops an entry that a kill cut off, so that what the next life writes is not taken for its bytes.
 */
void disk_cut(struct disk *d);
/* The last entry synced something. */
bool disk_has_synced(const struct disk *d);
/* `percent` of what was not synced reaches the disk. Makes the directory `path`. */
void disk_crash(struct disk *d, const char *path, unsigned percent, uint64_t *random);

uint64_t disk_random(uint64_t *state);

#endif
