/*
 * The bytes of index.redo. docs/format-index.md shows them with worked offsets.
 *
 * A run of records, each at a multiple of 8, the first of an epoch at 0; numbers are little-endian:
 *
 *       0     8  salt of the epoch
 *       8     8  number of the record: one more than that of the record before, never used twice
 *      16     8  number of the last record known durable when this one was written
 *      24     4  length of the payload
 *      28     4  zeros
 *      32    24  nonce
 *      56    16  tag              AAD = "cIR1" ‖ bytes 0..31 ‖ u64 LE offset of the record in the
 * file 72     n  ciphertext of the payload; zeros up to a multiple of 8
 *
 * The payload is what one transaction did, in order:
 *
 *     1 ‖ id ‖ length ‖ text             from here on `id` is this statement
 *     2 ‖ id ‖ count ‖ values ‖ changes ‖ row id
 *                                        it was run with these values, changed so many rows, and
 *                                        the last row inserted got this id (0: none)
 *     value: 0 NULL | 1 ‖ integer, zigzag | 2 ‖ length ‖ text | 3 ‖ length ‖ blob
 *
 *     3 ‖ kind ‖ length ‖ bytes          a note (meta/db_note.h): no part of the replay
 *
 * where all numbers are LEB128 of at most 64 bits. The texts of statements are in the log before
 * their first use behind the last mark (table `redo`): any program can replay the log of any other.
 *
 * XChaCha20-Poly1305 under a key of its own derived from the index key. History: first; since
 * version 5 of the schema, notes.
 */
#ifndef CACHET_META_REDO_FORMAT_H
#define CACHET_META_REDO_FORMAT_H

#include "crypto/aead.h"

#define REDO_ALIGN 8
#define REDO_SALT_LEN 8
#define REDO_NUMBER_OFFSET 8
#define REDO_DURABLE_OFFSET 16
#define REDO_LENGTH_OFFSET 24
#define REDO_CLEAR_LEN 32
#define REDO_NONCE_OFFSET REDO_CLEAR_LEN
#define REDO_TAG_OFFSET (REDO_NONCE_OFFSET + AEAD_NONCE_MAX)
#define REDO_HEADER_LEN (REDO_TAG_OFFSET + AEAD_TAG_LEN)
#define REDO_AAD "cIR1"
#define REDO_AAD_LEN (4 + REDO_CLEAR_LEN + 8)
/* Longer transactions are not logged but committed by SQLite at once. */
#define REDO_PAYLOAD_MAX (1u << 20)
/* Notes are refused beyond that, so that what the transaction did still fits. */
#define REDO_NOTES_MAX (REDO_PAYLOAD_MAX / 2)

enum redo_op { REDO_OP_TEXT = 1, REDO_OP_RUN = 2, REDO_OP_NOTE = 3 };
enum redo_value { REDO_NULL = 0, REDO_INTEGER = 1, REDO_TEXT = 2, REDO_BLOB = 3 };

#define REDO_IDS_MAX 1024
#define REDO_VALUES_MAX 24

_Static_assert(REDO_HEADER_LEN == 72, "offsets are part of the format");
_Static_assert(REDO_HEADER_LEN % REDO_ALIGN == 0, "the payload follows the header");

#endif
