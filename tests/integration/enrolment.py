"""A second implementation of the client's side of enrolment, from docs/protocol.md alone."""
import base64
import hashlib
import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text, length=None):
    data = base64.b64decode(text, validate=True)
    assert length is None or len(data) == length, (length, data)
    return data


def enc(label, *fields):
    out = label.encode()
    for f in fields:
        f = f.encode() if isinstance(f, str) else f
        out += len(f).to_bytes(2, "big") + f
    return out


class Refused(Exception):
    """A signed word of the server: .state, .kid"""

    def __init__(self, state, kid):
        super().__init__(state)
        self.state, self.kid = state, kid


class Device:
    def __init__(self, client, device_id=None):
        self.client = client
        self.id = device_id or os.urandom(16).hex()
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.dkid = self.server_key = None

    @property
    def point(self):
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def call(self, method, path, body=None):
        return self.client.call(method, path, body, {"Cachet-Device": self.id})

    def enrol(self, **extra):
        a = self.call("POST", "/v1/devices", {"dk_pub": b64(self.point), "curve": "p256", "device_id": self.id, **extra})
        assert a.status == 200, a
        assert a.json["dk_pub_sha256"] == hashlib.sha256(self.point).hexdigest()
        assert self.server_key in (None, unb64(a.json["serverKey"], 32)), "another server key than the pinned one"
        self.dkid, self.server_key = a.json["dkid"], unb64(a.json["serverKey"], 32)
        return a.json

    def verify(self, signature, message):
        Ed25519PublicKey.from_public_bytes(self.server_key).verify(signature, message)

    def open_answer(self, a, nonce, asked=None):
        """(kid, KEK), or Refused; raises when the answer is not the server's word on this nonce."""
        j = a.json
        if a.status == 403 and "signature" in j:
            state = a.problem
            assert unb64(j["nonce"]) == nonce and j["dkid"] == self.dkid
            self.verify(unb64(j["signature"], 64), enc(f"cachet {state} v1", self.dkid, j["kid"], nonce))
            raise Refused(state, j["kid"])
        assert a.status == 200, a
        assert unb64(j["nonce"]) == nonce
        w = j["wrappedKEK"]
        assert w["alg"] == "P256+AESGCM" and set(w) == {"alg", "eph_pub", "iv", "ct", "salt"}
        ct = unb64(w["ct"], 48)
        self.verify(unb64(j["signature"], 64), enc("cachet kek v1", self.dkid, j["kid"], nonce, hashlib.sha256(ct).digest()))
        assert asked in (None, j["kid"])
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(w["eph_pub"], 65))
        shared = self.private.exchange(ec.ECDH(), peer)
        key = HKDF(algorithm=SHA256(), length=32, salt=unb64(w["salt"], 16), info=b"").derive(shared)
        return j["kid"], AESGCM(key).decrypt(unb64(w["iv"], 12), ct, None)

    def ask(self, prefer=None, verb="kek", nonce=None):
        nonce = nonce or os.urandom(16)
        body = {"nonce": b64(nonce)}
        if prefer:
            body["preferKid"] = prefer
        return self.call("POST", f"/v1/devices/{self.dkid}/{verb}", body), nonce

    def kek(self, prefer=None, verb="kek", size=16):
        a, nonce = self.ask(prefer, verb, os.urandom(size))
        return self.open_answer(a, nonce, prefer)


def is_signed(device, a, nonce):
    """Whether the answer is the server's word on this nonce for this device."""
    try:
        device.open_answer(a, nonce)
    except (InvalidSignature, AssertionError):
        return False
    except Refused:
        pass
    return True
