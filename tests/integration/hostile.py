"""A server that speaks the Records protocol until it is told not to.

Hostile(records) serves one store, "notes". `misbehave(endpoints, how)` makes them answer as `how` says, `behave()` ends
that. Endpoints: caps, stores, changes, get, small (POST get), put, batch, other. Everything it received is in `seen`.
"""
import base64
import hashlib
import json
import os
import socket
import struct
import threading
import time

INSTANCE = "ab" * 16
EPOCH = "cd" * 16


class Hostile:
    def __init__(self, contents=None, etag_prefix=""):
        self.etag_prefix = etag_prefix
        self.instance, self.epoch, self.last_seq = INSTANCE, EPOCH, 0
        self.records, self.contents, self.keys = {}, {}, {}
        self.seq = 0
        self.max_request = 1 << 23
        self.bad = {}
        self.seen = []
        self.applied = []
        self.lock = threading.Condition()
        self.stopping = False
        for name, data in (contents or {}).items():
            self.make(name, data)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    url = property(lambda self: f"http://127.0.0.1:{self.port}")

    def close(self):
        self.stopping = True
        self.socket.close()
        with self.lock:
            self.lock.notify_all()

    def misbehave(self, endpoint, how):
        with self.lock:
            self.bad = {e: how for e in endpoint.split()}
            self.lock.notify_all()

    def behave(self):
        with self.lock:
            self.bad = {}

    # --- records ---

    def make(self, name, data, rid=None, kind="file", parent="root"):
        rid = rid or hashlib.md5(name.encode()).hexdigest()
        self.seq += 1
        self.contents[rid] = data
        r = {"id": rid, "parent": parent, "name": name, "kind": kind, "mode": 420,
             "etag": f'"{self.etag_prefix}{self.seq}"', "mtime_ns": "1", "seq": self.seq}
        if kind != "dir":
            r["size"], r["sha256"] = len(data), hashlib.sha256(data).hexdigest()
        self.records[rid] = r
        return r

    def change(self, name, data):
        with self.lock:
            r = self.make(name, data)
            self.lock.notify_all()
        return r

    # --- connections ---

    def accept(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            f = c.makefile("rb")
            while self.one(c, f):
                pass
        except OSError:
            pass
        finally:
            c.close()

    def one(self, c, f):
        line = f.readline()
        if not line:
            return False
        method, target, _ = line.decode().split(" ")
        headers = {}
        while (h := f.readline().strip()):
            k, v = h.decode().split(":", 1)
            headers[k.lower()] = v.strip()
        if headers.get("expect", "").lower() == "100-continue":
            c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = f.read(int(headers.get("content-length", 0)))
        endpoint = self.endpoint(method, target)
        self.seen.append((method, target, headers))
        how = self.bad.get(endpoint)
        if how:
            return getattr(self, "bad_" + how)(c, endpoint, target, headers)
        return self.good(c, endpoint, method, target, headers, body)

    @staticmethod
    def endpoint(method, target):
        path = target.split("?")[0]
        if path == "/v1":
            return "caps"
        if path == "/v1/stores":
            return "stores"
        if path.endswith("/changes"):
            return "changes"
        if path.endswith("/get"):
            return "small"
        if path.endswith("/batch"):
            return "batch"
        return {"GET": "get", "PUT": "put"}.get(method, "other")

    # --- good answers ---

    def send(self, c, status, body, headers=None, kind="application/json", instance=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        h = {"Content-Type": kind, "Content-Length": str(len(body)), "Cachet-Instance": instance or self.instance}
        h.update(headers or {})
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in h.items()) + "\r\n"
        c.sendall(head.encode() + body)
        return True

    def problem(self, c, status, kind, **more):
        return self.send(c, status, {"type": "urn:cachet:" + kind, "title": kind, "status": status,
                                     "instance_id": self.instance, **more}, kind="application/problem+json")

    def good(self, c, endpoint, method, target, headers, body):
        return getattr(self, "good_" + endpoint)(c, target, headers, body)

    def good_caps(self, c, target, headers, body):
        return self.send(c, 200, {"protocol": 1, "instance": self.instance, "epoch": self.epoch, "last_seq": self.last_seq,
                                  "limits": {"max_record_bytes": 1 << 30, "max_request_bytes": self.max_request, "max_batch": 1000,
                                             "max_wait_s": 60}})

    def good_stores(self, c, target, headers, body):
        return self.send(c, 200, {"stores": [{"id": "notes", "mode": "rw", "records": 0, "bytes": 0}]})

    def page(self, since):
        changes = sorted((r for r in self.records.values() if r["seq"] > since), key=lambda r: r["seq"])
        return {"changes": changes, "cursor": str(self.seq), "more": False, "records": len(self.records)}

    def good_changes(self, c, target, headers, body):
        q = dict(p.partition("=")[::2] for p in target.split("?")[1].split("&"))
        since, until = int(q["since"] or 0), time.time() + int(q["wait"])
        with self.lock:
            while self.seq <= since and time.time() < until and not self.bad and not self.stopping:
                self.lock.wait(0.2)
        how = self.bad.get("changes")
        if how:
            return getattr(self, "bad_" + how)(c, "changes", target, headers)
        return self.send(c, 200, self.page(since))

    def good_get(self, c, target, headers, body):
        rid = target.rsplit("/", 1)[1]
        if rid not in self.records:
            return self.problem(c, 404, "no-record")
        r, data = self.records[rid], self.contents[rid]
        if headers.get("if-match", r["etag"]) != r["etag"]:
            return self.problem(c, 412, "precondition", record=r)
        a, b = headers["range"].removeprefix("bytes=").split("-")
        part = data[int(a):int(b) + 1]
        return self.send(c, 206, part, {"ETag": r["etag"], "Content-Range": f"bytes {a}-{b}/{len(data)}"},
                         "application/octet-stream")

    def good_small(self, c, target, headers, body):
        out = []
        for rid in json.loads(body)["ids"]:
            out.append({"record": self.records[rid], "content": base64.b64encode(self.contents[rid]).decode()})
        return self.send(c, 200, {"records": out})

    def put_one(self, rid, key, name, parent, kind, data):
        with self.lock:
            if key not in self.keys:
                self.applied.append((rid, key))
                old = self.records.get(rid, {})
                self.keys[key] = dict(self.make(name or old["name"], data, rid, kind, parent or old["parent"]), key=key)
                self.records[rid]["key"] = key
                self.lock.notify_all()
            return self.keys[key]

    def good_put(self, c, target, headers, body):
        from urllib.parse import unquote
        self.last_seq = max(self.last_seq, int(headers["cachet-seq"]))
        r = self.put_one(target.rsplit("/", 1)[1], headers["idempotency-key"], unquote(headers.get("cachet-name", "")),
                         headers.get("cachet-parent"), headers["cachet-kind"], body)
        return self.send(c, 201, r)

    def good_batch(self, c, target, headers, body):
        out = []
        for op in json.loads(body)["ops"]:
            self.last_seq = max(self.last_seq, op["seq"])
            r = self.put_one(op["id"], op["key"], op.get("name"), op.get("parent"), op["kind"],
                             base64.b64decode(op.get("content", "")))
            out.append({"status": 201, "record": r})
        return self.send(c, 200, {"results": out})

    def good_other(self, c, target, headers, body):
        return self.problem(c, 405, "method")

    # --- bad ones; False = the connection ends ---

    def plausible(self):
        return json.dumps(self.page(0)).encode()

    def bad_error500(self, c, *_):
        return self.send(c, 500, b"<html>oops</html>", kind="text/html", instance="x")

    def bad_problem500(self, c, *_):
        return self.problem(c, 500, "internal")

    def bad_problem503(self, c, *_):
        return self.send(c, 503, {"type": "urn:cachet:busy", "title": "busy", "status": 503, "instance_id": self.instance},
                         {"Retry-After": "1"}, "application/problem+json")

    def bad_too_many(self, c, *_):
        return self.send(c, 429, {"type": "urn:cachet:too-many", "title": "busy", "status": 429, "instance_id": self.instance},
                         {"Retry-After": "3000"}, "application/problem+json")

    def bad_login(self, c, *_):
        page = b"<html><form action=/login></form></html>"
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page)
        return True

    def bad_empty(self, c, *_):
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return True

    def bad_empty_listing(self, c, *_):
        """A listing that looks complete and has nothing, from another machine on the address."""
        return self.send(c, 200, {"changes": [], "cursor": "0", "more": False}, instance="ef" * 16)

    def bad_no_identity(self, c, *_):
        c.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}")
        return True

    def bad_cut(self, c, *_):
        body = self.plausible()
        self.head(c, 200, len(body))
        c.sendall(body[:len(body) // 2])
        return False

    def bad_long_length(self, c, *_):
        body = self.plausible()
        self.head(c, 200, len(body) + 1000)
        c.sendall(body)
        return False

    def bad_short_length(self, c, *_):
        body = self.plausible()
        self.head(c, 200, len(body) - 10)
        c.sendall(body)
        return False

    def head(self, c, status, length):
        length = f"Content-Length: {length}\r\n" if length is not None else ""
        c.sendall(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nCachet-Instance: {self.instance}\r\n"
                  f"ETag: \"1\"\r\n{length}\r\n".encode())

    def bad_endless(self, c, *_):
        self.head(c, 200, None)
        c.sendall(b'{"changes":[')
        while True:
            c.sendall(b" " * 65536)

    def bad_endless_error(self, c, *_):
        self.head(c, 404, None)
        while True:
            c.sendall(b" " * 65536)

    def bad_json(self, c, *_):
        return self.send(c, 200, self.plausible()[:-5] + b"}}}}}")

    def bad_json_array(self, c, *_):
        return self.send(c, 200, b"[]")

    def bad_deep_json(self, c, *_):
        return self.send(c, 200, b'{"changes":' + b"[" * 100000 + b"]" * 100000 + b"}")

    def bad_drip(self, c, *_):
        self.head(c, 200, 100000)
        for _ in range(600):
            c.sendall(b" ")
            time.sleep(0.5)
        return False

    def bad_drip_header(self, c, *_):
        c.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(600):
            c.sendall(b"X")
            time.sleep(0.5)
        return False

    def bad_silent(self, c, *_):
        time.sleep(300)
        return False

    def bad_reset(self, c, *_):
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.shutdown(socket.SHUT_RD)
        return False

    def bad_reset_midway(self, c, *_):
        self.head(c, 200, 10000)
        c.sendall(b"{" * 1000)
        time.sleep(0.1)
        return self.bad_reset(c)

    def bad_garbage(self, c, *_):
        c.sendall(os.urandom(10000))
        return False

    def bad_redirect(self, c, *_):
        c.sendall(f"HTTP/1.1 302 Found\r\nLocation: {self.elsewhere}\r\nContent-Length: 0\r\n"
                  f"Cachet-Instance: {self.instance}\r\n\r\n".encode())
        return True

    def bad_wrong_instance(self, c, *_):
        return self.send(c, 200, self.page(0), instance="ef" * 16)

    def bad_big_header(self, c, *_):
        c.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1600):
            c.sendall(b"X-Filler: " + b"x" * 65000 + b"\r\n")
        return False

    def bad_big_header_line(self, c, *_):
        c.sendall(b"HTTP/1.1 200 OK\r\nX-Filler: ")
        for _ in range(1600):
            c.sendall(b"x" * 65536)
        return False

    def named(self, c, name):
        r = json.dumps(dict(self.records[next(iter(self.records))], id="evil", seq=self.seq + 1, name="@@")).encode()
        body = b'{"changes":[' + r.replace(b'"@@"', name) + b'],"cursor":"99","more":false}'
        return self.send(c, 200, body)

    def bad_name_slash(self, c, *_):
        return self.named(c, b'"../../etc/passwd"')

    def bad_name_dots(self, c, *_):
        return self.named(c, b'".."')

    def bad_name_nul(self, c, *_):
        return self.named(c, b'"a\\u0000b"')

    def bad_name_utf8(self, c, *_):
        return self.named(c, b'"a\xff\xfe"')

    def bad_name_long(self, c, *_):
        return self.named(c, b'"' + b"n" * 300 + b'"')

    def bad_no_end(self, c, *_):
        """Pages that promise more for ever and bring nothing."""
        return self.send(c, 200, {"changes": [], "cursor": "1", "more": True})

    # contents

    def bad_other_etag(self, c, endpoint, target, headers):
        a, b = headers["range"].removeprefix("bytes=").split("-")
        n = int(b) - int(a) + 1
        return self.send(c, 206, b"!" * n, {"ETag": '"other"', "Content-Range": f"bytes {a}-{b}/{n}"})

    def bad_other_range(self, c, endpoint, target, headers):
        a, b = headers["range"].removeprefix("bytes=").split("-")
        r = self.records[target.rsplit("/", 1)[1]]
        n = int(b) - int(a) + 1
        return self.send(c, 206, b"!" * n, {"ETag": r["etag"], "Content-Range": f"bytes {int(a) + 1}-{int(b) + 1}/{r['size']}"})

    def bad_whole(self, c, endpoint, target, headers):
        rid = target.rsplit("/", 1)[1]
        return self.send(c, 200, self.contents[rid], {"ETag": self.records[rid]["etag"]})

    def bad_too_much(self, c, endpoint, target, headers):
        a, b = headers["range"].removeprefix("bytes=").split("-")
        r = self.records[target.rsplit("/", 1)[1]]
        n = int(b) - int(a) + 1
        return self.send(c, 206, b"!" * (n + 5), {"ETag": r["etag"], "Content-Range": f"bytes {a}-{b}/{r['size']}"})

    # mutations: it is done, but the answer is lost, or is of something else

    def bad_lost_answer(self, c, *_):
        return False
