"""A second reader and writer of keyring.json, device record and lease included, written from docs/format.md alone."""
import base64
import hashlib
import hmac
import os

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text, length=None):
    data = base64.b64decode(text, validate=True)
    assert length in (None, len(data)) and b64(data) == text, text
    return data


def f(x):
    """F(x): text, a number as decimal text, or bytes as they are."""
    x = x if isinstance(x, bytes) else str(x).encode()
    return len(x).to_bytes(2, "little") + x


def kdf(parent, label, *fields):
    return hashlib.blake2b(bytes([len(label)]) + label + b"".join(map(f, fields)), digest_size=32, key=parent).digest()


def commit(key, context):
    return hmac.new(key, b"cachet/commit/v1" + f(context), hashlib.sha256).digest()[:16]


def seal(key, plain, aad):
    iv = os.urandom(12)
    return {"iv": b64(iv), "ct": b64(AESGCM(key).encrypt(iv, plain, aad))}


def unseal(key, sealed, aad, length=None):
    return AESGCM(key).decrypt(unb64(sealed["iv"], 12), unb64(sealed["ct"], length), aad)


# --- wrapped keys ---

def entry_aad(e):
    names = ("purpose", "store", "kid", "epoch", "createdAt", *(["from"] if "from" in e else []))
    return b"cachet/wrap/v1" + b"".join(f(e[n]) for n in names)


def open_entry(e, kek):
    assert set(e) - {"from"} == {"purpose", "store", "wrappedCEK", "kid", "epoch", "commit", "createdAt"}
    assert hmac.compare_digest(unb64(e["commit"], 16), commit(kek, e["kid"])), "another KEK"
    return unseal(kek, e["wrappedCEK"], entry_aad(e), 48)


def wrap_entry(e, kek, kid, key):
    e = {**e, "kid": kid, "commit": b64(commit(kek, kid))}
    return {**e, "wrappedCEK": seal(kek, key, entry_aad(e))}


# --- the device record ---

def device_aads(d):
    point, server_key = unb64(d["deviceKeys"]["pubRawB64"], 65), unb64(d["serverKey"], 32)
    return {"key": b"".join(map(f, (d["deviceId"], d["dkid"], d["kid"], d["rotation"], d["expiresAt"], point, server_key))),
            "token": f(d["deviceId"]),
            "lease": b"".join(map(f, (d["deviceId"], d["dkid"], d["kid"], d["lease"]["from"], d["lease"]["until"])))}


def device_keys(secret):
    return {name: kdf(secret, f"cachet/device/{name}/v1".encode()) for name in ("key", "token", "lease")}


def open_device(d, secret):
    """{"key": P-256 private key, "token": bytes, "lease": KEK}"""
    assert hmac.compare_digest(unb64(d["commit"], 16), commit(secret, d["deviceId"])), "another device secret"
    keys, aads = device_keys(secret), device_aads(d)
    scalar = unseal(keys["key"], d["deviceKeys"]["privWrapped"], aads["key"], 48)
    private = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert point == unb64(d["deviceKeys"]["pubRawB64"], 65)
    return {"key": private, "token": unseal(keys["token"], d["token"], aads["token"]),
            "lease": unseal(keys["lease"], d["lease"], aads["lease"], 48)}


def seal_device(d, secret, opened):
    """The record with what is sealed in it sealed anew under `secret`."""
    keys, aads = device_keys(secret), device_aads(d)
    scalar = opened["key"].private_numbers().private_value.to_bytes(32, "big")
    return {**d, "commit": b64(commit(secret, d["deviceId"])),
            "deviceKeys": {**d["deviceKeys"], "privWrapped": seal(keys["key"], scalar, aads["key"])},
            "token": seal(keys["token"], opened["token"], aads["token"]),
            "lease": {**d["lease"], **seal(keys["lease"], opened["lease"], aads["lease"])}}
