/*
 * A blob: one file of sealed chunks in slots, blobs/xx/<30 hex>, named by its random uuid.
 *
 * Slot i starts at byte i << shift and is as long as a chunk; the ciphertext of a shorter chunk fills the slot's
 * first bytes, padded with random bytes to a multiple of 4096, the rest is a hole. Nothing else is in the file: nonce, tag, length, sequence stand in the index (meta/content.h), so an old,
 * moved, exchanged or zeroed slot does not open.
 *
 * AAD = "cachet/chunk/v1" ‖ store ref 16 bytes ‖ uuid 16 ‖ epoch u64 ‖ idx u64 ‖ seq u64 ‖ len u32 ‖ alg u8 (little-endian); key = keys_blob().
 *
 * A slot is written only while no row that may survive a crash names it: free slots are those named by no chunk or undo row of
 * any map (content_slots), less those released since the last sync. Derived at open, never stored.
 * A failed fdatasync: the kernel may have dropped the pages: their chunks are written to other slots (blob.c).
 */
#ifndef CACHET_CACHE_BLOB_H
#define CACHET_CACHE_BLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "meta/content.h"

#define BLOB_SHIFT_MIN 12
#define BLOB_SHIFT_MAX 20
#define BLOB_SHIFT_DEFAULT 16
#define BLOB_PAD 4096

#endif
