"""The server's side of enrolment written from docs/protocol.md alone with python3-cryptography, in front of a real
server that answers everything else: an implementation independent of ours, which can also lie."""
import base64
import hashlib
import http.client
import http.server
import json
import os
import threading
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def b64(data):
    return base64.b64encode(data).decode()


def enc(label, *fields):
    out = label.encode()
    for f in fields:
        f = f.encode() if isinstance(f, str) else f
        out += len(f).to_bytes(2, "big") + f
    return out


def raw(public_key):
    return public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


class KeyServer:
    """url stands for the real server's. `mischief` changes answers: a function (path, status, answer) -> answer."""

    def __init__(self, server):
        self.server = server
        self.sign_key = ed25519.Ed25519PrivateKey.generate()
        self.devices = {}           # dkid -> {"device_id", "pub", "state"}
        self.keks = {}              # kid -> bytes
        self.current = None
        self.offline_ttl = 3600
        self.expires_s = 86400
        self.mischief = None
        self.asked = []             # (path, body) of every enrolment message
        self.rotate()
        handler = type("Handler", (Handler,), {"owner": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()
        self.instance = json.loads(server.request("GET", "/v1")[2])["instance"]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def token(self):
        return self.server.token

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def rotate(self):
        self.current = f"kek-{len(self.keks) + 1}"
        self.keks[self.current] = os.urandom(32)

    def sign(self, label, *fields):
        return b64(self.sign_key.sign(enc(label, *fields)))

    def wrap(self, pub, kek):
        """(wrappedKEK, ct)"""
        eph = ec.generate_private_key(ec.SECP256R1())
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), pub)
        salt, iv = os.urandom(16), os.urandom(12)
        key = HKDF(hashes.SHA256(), 32, salt, b"").derive(eph.exchange(ec.ECDH(), peer))
        ct = AESGCM(key).encrypt(iv, kek, None)
        return {"alg": "P256+AESGCM", "eph_pub": b64(raw(eph.public_key())), "iv": b64(iv), "ct": b64(ct), "salt": b64(salt)}, ct

    def problem(self, status, kind, **members):
        return status, {"type": f"urn:cachet:{kind}", "title": kind, "status": status, "instance_id": self.instance, **members}

    def upsert(self, body):
        pub = base64.b64decode(body["dk_pub"], validate=True)
        assert len(pub) == 65 and body["curve"] == "p256"
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), pub)
        for dkid, d in self.devices.items():
            if d["device_id"] == body["device_id"] and d["state"] != "revoked":
                d["pub"] = pub
                break
        else:
            dkid = f"dk-{len(self.devices) + 1}"
            self.devices[dkid] = {"device_id": body["device_id"], "pub": pub, "state": "ok"}
        key = self.sign_key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return 200, {"dkid": dkid, "serverKey": b64(key), "dk_pub_sha256": hashlib.sha256(pub).hexdigest(), "kid": self.current}

    def kek(self, dkid, body):
        d = self.devices.get(dkid)
        nonce = base64.b64decode(body["nonce"], validate=True)
        assert 16 <= len(nonce) <= 32
        if not d:
            return self.problem(404, "no-device")
        kid = body.get("preferKid", self.current)
        if d["state"] != "ok":
            label = f"device-{d['state']}"
            return self.problem(403, label, dkid=dkid, kid=kid, nonce=body["nonce"],
                                signature=self.sign(f"cachet {label} v1", dkid, kid, nonce))
        if kid not in self.keks:
            return self.problem(404, "no-kid")
        wrapped, ct = self.wrap(d["pub"], self.keks[kid])
        return 200, {"kid": kid, "currentKid": self.current, "wrappedKEK": wrapped, "expiresAt": int(time.time()) + self.expires_s,
                     "offline_ttl": self.offline_ttl, "nonce": body["nonce"],
                     "signature": self.sign("cachet kek v1", dkid, kid, nonce, hashlib.sha256(ct).digest())}

    def answer(self, path, body):
        self.asked.append((path, body))
        parts = path.split("/")
        if path == "/v1/devices":
            status, answer = self.upsert(body)
        elif parts[-1] == "rotate" and self.devices.get(parts[3], {}).get("state") == "ok":
            self.rotate()
            status, answer = self.kek(parts[3], body)
        else:
            status, answer = self.kek(parts[3], body)
        if self.mischief:
            changed = self.mischief(path, status, answer)
            status, answer = changed if isinstance(changed, tuple) else (status, changed)
        return status, answer

    def state_of(self, device_id):
        found = [(dkid, d) for dkid, d in self.devices.items() if d["device_id"] == device_id]
        return found[-1] if found else (None, None)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner = None

    def log_message(self, *args):
        pass

    def send(self, status, headers, body):
        self.send_response(status)
        for k, v in headers.items():
            if k.lower() not in ("connection", "date", "transfer-encoding", "content-length"):
                self.send_header(k, v)
        if status != 304 and status >= 200:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def enrolment(self, body):
        status, answer = self.owner.answer(self.path, json.loads(body))
        kind = "application/json" if status < 400 else "application/problem+json"
        self.send(status, {"Content-Type": kind, "Cachet-Instance": self.owner.instance}, json.dumps(answer).encode())

    def forward(self, body):
        c = http.client.HTTPConnection("127.0.0.1", self.owner.server.port, timeout=90)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length", "transfer-encoding", "expect")}
            c.request(self.command, self.path, body, headers)
            r = c.getresponse()
            data = r.read()
            if self.command == "GET" and self.path == "/v1" and r.status == 200:
                dkid, d = self.owner.state_of(self.headers.get("Cachet-Device"))
                if d:
                    data = json.dumps({**json.loads(data), "device": {"dkid": dkid, "kid": self.owner.current, "state": d["state"]}}).encode()
            self.send(r.status, dict(r.getheaders()), data)
        finally:
            c.close()

    def handle_any(self):
        body = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.path.startswith("/v1/devices"):
                self.enrolment(body)
            else:
                self.forward(body)
        except (ConnectionError, TimeoutError, BrokenPipeError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = handle_any
