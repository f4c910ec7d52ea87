"""A second reader of sealed bundles, written from docs/format.md alone."""
import hashlib
import hmac
import pathlib
import re
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER, CHUNK, TAG = 88, 65536, 16


def hkdf(key, salt, info, length):
    prk, out, block = hmac.new(salt, key, hashlib.sha256).digest(), b"", b""
    for i in range(1, 256):
        if len(out) >= length:
            return out[:length]
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out += block
    raise ValueError(length)


def header_of(salt, prefix, commitment, content=1):
    return b"cachetXB" + bytes([1, 1, content, 0]) + struct.pack("<I", CHUNK) + salt + prefix + b"\0" + commitment


def seal(key, plain, salt, prefix, content=1):
    okm = hkdf(key, salt, b"cachet/bundle/v1", 64)
    header = header_of(salt, prefix, okm[32:], content)
    chunks = [plain[i:i + CHUNK] for i in range(0, len(plain), CHUNK)] or [b""]
    return header + b"".join(
        AESGCM(okm[:32]).encrypt(prefix + struct.pack(">IB", i, i == len(chunks) - 1), chunk, header)
        for i, chunk in enumerate(chunks))


def open_bundle(key, sealed):
    """(content code, plaintext); InvalidTag when any of it is not authentic."""
    header, body = sealed[:HEADER], sealed[HEADER:]
    okm = hkdf(key, header[16:48], b"cachet/bundle/v1", 64)
    assert header == header_of(header[16:48], header[48:55], okm[32:], header[10])
    parts = [body[i:i + CHUNK + TAG] for i in range(0, len(body), CHUNK + TAG)]
    if not parts:
        raise InvalidTag
    return header[10], b"".join(
        AESGCM(okm[:32]).decrypt(header[48:55] + struct.pack(">IB", i, i == len(parts) - 1), part, header)
        for i, part in enumerate(parts))


def example(name):
    """The value named so in the page's worked examples."""
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()
    return bytes.fromhex(re.search(rf"^\| {name} \| `([0-9a-f]+)` \|$", page, re.M).group(1))
