#include "meta/page.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/kdf.h"

#define ALG AEAD_XCHACHA20POLY1305
#define PAGE_AAD_LEN 8
#define FRAME_AAD_LEN 28
#define NOT_A_STRING __attribute__((nonstring))

static int derive(const struct secret *index_key, const char *label, struct secret **out)
{
	_cleanup_secret_ struct secret *s = NULL;
	int r = secret_new(AEAD_KEY_LEN, &s);

	if (r < 0)
		return r;
	r = kdf_blake2b(secret_cbytes(index_key), label, NULL, 0, secret_bytes(s));
	if (r < 0)
		return r;
	*out = steal_ptr(&s);
	return 0;
}

int page_keys_init(struct page_keys *k, const struct secret *index_key)
{
	_cleanup_secret_ struct secret *page = NULL;
	int r;

	if (secret_len(index_key) != AEAD_KEY_LEN)
		return CE_WRONG_KEY;
	r = derive(index_key, KDF_LABEL_INDEX_PAGE, &page);
	if (r < 0)
		return r;
	r = derive(index_key, KDF_LABEL_INDEX_WAL, &k->wal);
	if (r < 0)
		return r;
	k->page = steal_ptr(&page);
	return 0;
}

void page_keys_done(struct page_keys *k)
{
	secret_free(k->page);
	secret_free(k->wal);
	k->page = k->wal = NULL;
}

static void page_aad(uint32_t pgno, uint8_t aad[static PAGE_AAD_LEN])
{
	static const char label[4] NOT_A_STRING = PAGE_AAD;

	memcpy(aad, label, sizeof(label));
	store_le32(aad + 4, pgno);
}

int page_seal(const struct page_keys *k, uint32_t pgno, const uint8_t plain[static PAGE_SIZE_BYTES],
	uint8_t out[static PAGE_SIZE_BYTES])
{
	uint8_t aad[PAGE_AAD_LEN];

	page_aad(pgno, aad);
	aead_nonce(ALG, out + PAGE_NONCE_OFFSET);
	return aead_seal(ALG, secret_cbytes(k->page), out + PAGE_NONCE_OFFSET, aad, sizeof(aad),
		plain, PAGE_BODY_LEN, out, out + PAGE_TAG_OFFSET);
}

int page_open(const struct page_keys *k, uint32_t pgno, const uint8_t in[static PAGE_SIZE_BYTES],
	uint8_t plain[static PAGE_SIZE_BYTES])
{
	uint8_t aad[PAGE_AAD_LEN];
	int r;

	page_aad(pgno, aad);
	r = aead_open(ALG, secret_cbytes(k->page), in + PAGE_NONCE_OFFSET, aad, sizeof(aad), in,
		PAGE_BODY_LEN, in + PAGE_TAG_OFFSET, plain);
	memset(plain + PAGE_BODY_LEN, 0, PAGE_RESERVE);
	return r;
}

bool page_reserve_clear(const uint8_t plain[static PAGE_SIZE_BYTES])
{
	static const uint8_t zeros[PAGE_RESERVE];

	return memcmp(plain + PAGE_BODY_LEN, zeros, PAGE_RESERVE) == 0;
}

static void frame_aad(uint64_t offset, const uint8_t *header, uint8_t aad[static FRAME_AAD_LEN])
{
	static const char label[4] NOT_A_STRING = PAGE_FRAME_AAD;

	memcpy(aad, label, sizeof(label));
	memcpy(aad + 4, header, PAGE_FRAME_SEALED_OFFSET);
	store_le64(aad + 20, offset);
}

int page_frame_seal(const struct page_keys *k, uint64_t offset, uint32_t durable,
	const uint8_t header[static PAGE_FRAME_HEADER_LEN],
	const uint8_t page[static PAGE_SIZE_BYTES], uint8_t out[static PAGE_FRAME_LEN])
{
	uint8_t *sealed = out + PAGE_FRAME_SEALED_OFFSET;
	uint8_t *nonce = out + PAGE_FRAME_NONCE_OFFSET;
	uint8_t aad[FRAME_AAD_LEN];

	memcpy(out, header, PAGE_FRAME_HEADER_LEN);
	memcpy(out + PAGE_FRAME_HEADER_LEN, page, PAGE_BODY_LEN);
	frame_aad(offset, out, aad);
	/* 160 random bits are left: a collision is as far away as with all 192. */
	aead_nonce(ALG, nonce);
	store_le32(nonce, durable);
	return aead_seal(ALG, secret_cbytes(k->wal), nonce, aad, sizeof(aad), sealed,
		PAGE_FRAME_SEALED_LEN, sealed, out + PAGE_FRAME_TAG_OFFSET);
}

int page_frame_open(const struct page_keys *k, uint64_t offset,
	const uint8_t in[static PAGE_FRAME_LEN], uint8_t out[static PAGE_FRAME_LEN])
{
	uint8_t aad[FRAME_AAD_LEN];
	int r;

	frame_aad(offset, in, aad);
	r = aead_open(ALG, secret_cbytes(k->wal), in + PAGE_FRAME_NONCE_OFFSET, aad, sizeof(aad),
		in + PAGE_FRAME_SEALED_OFFSET, PAGE_FRAME_SEALED_LEN, in + PAGE_FRAME_TAG_OFFSET,
		out + PAGE_FRAME_SEALED_OFFSET);
	if (out != in)
		memcpy(out, in, PAGE_FRAME_SEALED_OFFSET);
	memset(out + PAGE_FRAME_NONCE_OFFSET, 0, PAGE_RESERVE);
	return r;
}

uint32_t page_frame_durable(const uint8_t sealed[static PAGE_FRAME_LEN])
{
	return load_le32(sealed + PAGE_FRAME_NONCE_OFFSET);
}

void page_checksum(bool big_endian, const uint8_t *data, size_t len, uint32_t sum[static 2])
{
	uint32_t s1 = sum[0], s2 = sum[1];

	for (const uint8_t *p = data; p < data + len; p += 8) {
		s1 += (big_endian ? page_load_be32(p) : load_le32(p)) + s2;
		s2 += (big_endian ? page_load_be32(p + 4) : load_le32(p + 4)) + s1;
	}
	sum[0] = s1;
	sum[1] = s2;
}
