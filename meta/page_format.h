/*
 * The bytes of the index on disk. docs/format.md shows them with worked offsets.
 *
 * index.db is a run of sealed pages of 4096 bytes; page n (from 1) lies at (n - 1) * 4096. Nothing
 * of SQLite's format is in the clear, page 1 included:
 *
 *       0  4056  ciphertext of the page body
 *    4056    24  nonce
 *    4080    16  tag             AAD = "cIP1" ‖ u32 LE page number
 *
 * index.db-wal is SQLite's write-ahead log: a header of 32 bytes, as SQLite writes it (its checksum
 * is over the header alone), then frames of 4120 bytes; frame i (from 0) lies at 32 + i * 4120:
 *
 *       0     4  page number, big-endian
 *       4     4  size of the database in pages after a commit, 0 in other frames ("commit mark")
 *       8     8  salts, those of the log's header
 *      16     8  ciphertext of SQLite's running checksum   \  one message: the checksum is over
 *      24  4056  ciphertext of the page body               /  plaintext and would leak it
 *    4080    24  nonce: u32 LE frames known durable when this one was written ‖ 20 random bytes
 *    4104    16  tag             AAD = "cIW1" ‖ bytes 0..15 ‖ u64 LE offset of the frame in the
 * file
 *
 * Both are XChaCha20-Poly1305, each under its own key derived from the index key.
 *
 * History: 1, first.
 */
#ifndef CACHET_META_PAGE_FORMAT_H
#define CACHET_META_PAGE_FORMAT_H

#include "crypto/aead.h"

#define PAGE_SIZE_BYTES 4096
#define PAGE_NONCE_LEN 24
#define PAGE_RESERVE (PAGE_NONCE_LEN + AEAD_TAG_LEN)
#define PAGE_BODY_LEN (PAGE_SIZE_BYTES - PAGE_RESERVE)
#define PAGE_NONCE_OFFSET PAGE_BODY_LEN
#define PAGE_TAG_OFFSET (PAGE_NONCE_OFFSET + PAGE_NONCE_LEN)
#define PAGE_AAD "cIP1"

#define PAGE_WAL_HEADER_LEN 32
#define PAGE_WAL_SALT_OFFSET 16
#define PAGE_WAL_CKSUM_OFFSET 24
#define PAGE_WAL_MAGIC 0x377f0682u /* lowest bit: checksums over big-endian words */
#define PAGE_WAL_VERSION 3007000u

#define PAGE_FRAME_HEADER_LEN 24
#define PAGE_FRAME_LEN (PAGE_FRAME_HEADER_LEN + PAGE_SIZE_BYTES)
#define PAGE_FRAME_SALT_OFFSET 8
#define PAGE_FRAME_SEALED_OFFSET 16
#define PAGE_FRAME_SEALED_LEN (8 + PAGE_BODY_LEN)
#define PAGE_FRAME_NONCE_OFFSET (PAGE_FRAME_SEALED_OFFSET + PAGE_FRAME_SEALED_LEN)
#define PAGE_FRAME_TAG_OFFSET (PAGE_FRAME_NONCE_OFFSET + PAGE_NONCE_LEN)
#define PAGE_FRAME_AAD "cIW1"

_Static_assert(PAGE_RESERVE == 40, "reserved bytes are part of the format");
_Static_assert(PAGE_FRAME_NONCE_OFFSET == 4080, "offset is part of the format");
_Static_assert(PAGE_FRAME_TAG_OFFSET + AEAD_TAG_LEN == PAGE_FRAME_LEN, "the tag ends the frame");

#endif
