/*
 * unsent.log on disk. All numbers are little-endian; docs/format.md has the tables.
 *
 *     file   = magic 16 ‖ file id 16 ‖ zeros 32 ‖ frame …
 *     frame  = u32 length ‖ u32 0 ‖ u64 seq ‖ nonce 24 ‖ tag 16 ‖ length bytes sealed ‖ zeros to a
 *              multiple of 64
 *
 * seq counts from 1 without gaps. XChaCha20-Poly1305 under a key of the file's own, BLAKE2b-KDF(log
 * key, file id), so that a frame of another log does not open; AAD = KDF_LABEL_UNSENT ‖ file id ‖
 * length ‖ seq. What is sealed is a row of records, each u8 kind ‖ u32 length ‖ body
 * (unsent_row.c). Zeros stand behind the last frame.
 *
 * History: version 1 is the first.
 */
#ifndef CACHET_CACHE_UNSENT_FORMAT_H
#define CACHET_CACHE_UNSENT_FORMAT_H

#define UNSENT_FILE "unsent.log"
#define UNSENT_NEW_FILE "unsent.log.new"
#define UNSENT_MAGIC "cachet-unsent-01"
#define UNSENT_MAGIC_LEN 16
#define UNSENT_ID_LEN 16
#define UNSENT_HEADER_LEN 64
#define UNSENT_FRAME_LEN 56 /* before the sealed bytes */
#define UNSENT_NONCE_LEN 24
#define UNSENT_ALIGN 64
#define UNSENT_FRAME_MAX (UINT32_C(1) << 30)

enum unsent_kind {
	UNSENT_VOLUME = 1,  /* settings: the first record of a file */
	UNSENT_STORE = 2,   /* number, ref, name, mode */
	UNSENT_RECORD = 3,  /* name, attributes and journal rows of one record, as they are now */
	UNSENT_GONE = 4,    /* nothing of this record is unsent any more */
	UNSENT_CONTENT = 5, /* a chunk map: whole, or what changed since the frame it names */
	UNSENT_SYNCED = 6,  /* journal rows up to this seq were durable in the index */
};

#endif
