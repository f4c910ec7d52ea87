"""Requests made after docs/openapi.yaml, and spoiled: the server refuses them with one problem and stores nothing.

A request is built valid, then one or two of its parts are spoiled: a path that climbs out, a value of a wrong type or size,
a key twice in the JSON, a header twice, two framings, a second request hidden in the body. Whether what came of it is still
valid, the document says. Asked of each:

- one answer and no more, whatever stands behind the request; none only where the request was not HTTP
- what the document does not allow is refused; a refusal is a problem as in the document, with the instance; never 500
- a refusal changed nothing: no commit in the database, no file left; two things are noted by the protocol itself: a 412 with
  its key (rule 2), and the highest number a device sent
- a success is as the document says

    scripts/fuzz-http [--seconds N] [--seed N]
"""
import argparse
import base64
import json
import random
import re
import socket
import sqlite3
import subprocess
import tempfile
import time

from openapi import Spec
from server_fixtures import Server, command, new_key

# The generator of P-256: a point that is on the curve.
POINT = base64.b64encode(bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")).decode()
NONCE = base64.b64encode(b"n" * 16).decode()
ODD_SEGMENTS = ["..", ".", "%2e%2e", "%2E%2e%2Fetc", "..%2f..%2fetc%2fpasswd", "%00", "a%00", "%", "%zz", "%ff", "\u00e9", "a" * 65,
                "a%2fb", "a;b", "a b", "", "%c0%ae%c0%ae", "a" * 3000, "*", "~", "x%0d%0aX-Evil:%201", "a.b", "a+b"]
ODD_TEXTS = ["", " ", "0", "-1", "1e9", "01", "+1", "18446744073709551616", "9223372036854775808", "nan", "\x01", "\x7f", "\u00fc", "a" * 600,
             "*", '"', '""', "W/", '"a', "a, b", "%00", "true", "null", "../..", "'; DROP TABLE records; --", "x" * 9000, "\t", "1\t"]
ODD_VALUES = [None, True, False, 0, -1, 1.5, 2**53, 2**64, -2**63 - 1, "", "x", "..", "a/b", "\0", "\ud800", "a" * 300, "\u00e9" * 200, [], {},
              [[]], {"id": 1}, [1, "2"], "1", "=" * 88, "*", " ", "root"]
HIDDEN = (b"PUT /v1/stores/main/records/smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nIf-None-Match: *\r\n"
          b"Cachet-Parent: root\r\nCachet-Name: smuggled\r\nIdempotency-Key: 55555555555555555555555555555555\r\n"
          b"Content-Length: 1\r\n\r\nx")


def start(home):
    """A server with jobs, an enrolled device, a query and some records."""
    s = Server(home)
    (s.home / "jobs.json").write_text(json.dumps({"jobs": {"cat": {"command": ["/bin/cat"]}}}))
    subprocess.run([*command(), "query", "add", "--store", "main", "--sql", "SELECT id FROM records WHERE name = :name", "q",
                    str(s.dir)], check=True, capture_output=True)
    words = [*command(), str(s.dir), "--listen", "127.0.0.1:0", "--port-file", str(s.port_file), "--jobs",
             str(s.home / "jobs.json")]
    with open(s.log, "ab") as log:
        s.process = subprocess.Popen(words, stdout=log, stderr=log)
    end = time.monotonic() + 60
    while not s.port_file.exists():
        assert s.process.poll() is None and time.monotonic() < end, s.log.read_text()
        time.sleep(0.02)
    s.port = int(s.port_file.read_text())
    s.admin_token = s.new_token("--admin", account="chief")
    c = s.client()
    c.make("seed", "seed", b"0123456789")
    c.mkdir("dir", "dir")
    c.delete("gone", c.make("gone", "gone")["etag"])
    s.dkid = c.call("POST", "/v1/devices", {"dk_pub": POINT, "curve": "p256", "device_id": "laptop"}).json["dkid"]
    s.job = c.call("POST", "/v1/jobs?type=cat", b"payload", {"Idempotency-Key": new_key()}).json["job_id"]
    s.upload = cut_off_upload(s)
    c.close()
    return s


def cut_off_upload(server):
    """The key of a PUT whose body has only begun."""
    key, client, end = new_key(), server.client(), time.monotonic() + 20
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.sendall(f"PUT {client.url('cut')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nIdempotency-Key: {key}\r\n"
                  "If-None-Match: *\r\nCachet-Parent: root\r\nCachet-Name: cut\r\nContent-Length: 2000000\r\n\r\nbegun".encode())
        while client.call("GET", f"/v1/stores/main/uploads/{key}").status != 200:
            assert time.monotonic() < end
            time.sleep(0.02)
    client.close()
    return key


def wait_for_job(server):
    client, end = server.client(), time.monotonic() + 20
    while client.call("GET", f"/v1/jobs/{server.job}").json["status"] != "done":
        assert time.monotonic() < end
        time.sleep(0.02)
    client.close()


class Request:
    def __init__(self, operation, segments, query, headers, body):
        self.operation, self.segments, self.query, self.headers, self.body = operation, segments, query, headers, body
        self.bad_json = self.bad_text = False
        self.bad = False       # the document does not allow it
        self.not_http = False  # the library may close without a word, or refuse in its own
        self.tail = b""

    def bytes(self):
        target = "/" + "/".join(self.segments)
        if self.query:
            target += "?" + "&".join(f"{k}={v}" for k, v in self.query)
        lines = [f"{self.operation.method} {target} HTTP/1.1", *[f"{k}: {v}" for k, v in self.headers]]
        if self.body is not None and not any(k.strip().lower() in ("content-length", "transfer-encoding") for k, v in self.headers):
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (self.body or b"") + self.tail


class Fuzzer:
    def __init__(self, server, seed):
        self.server, self.rng, self.spec = server, random.Random(seed), Spec()
        self.instance = server.client().call("GET", "/v1").headers["Cachet-Instance"]
        self.db = sqlite3.connect(f"file:{server.dir}/records.db?mode=ro", uri=True)
        self.tables = [t for t, in self.db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'devices'")]
        self.seen = None, None
        self.n, self.statuses = 0, {}
        self.spoilers = [self.spoil_path, self.spoil_query, self.spoil_header, self.spoil_json, self.spoil_json, self.spoil_json_text,
                         self.spoil_lines, self.spoil_framing]

    # --- valid requests ---

    def value(self, p):
        known = {"store": "main", "job": self.server.job, "dkid": self.server.dkid, "name": "q", "type": "cat", "If-Match": "*",
                 "key": self.server.upload,
                 "Cachet-Parent": "root", "Cachet-Name": f"n{self.n}", "Idempotency-Key": new_key(), "since": "", "limit": "10",
                 "wait": "0", "Cachet-Kind": "file", "Cachet-Mode": "420", "Cachet-Mtime-Ns": "5", "Cachet-Device": "ab" * 16,
                 "Cachet-Seq": str(self.n), "Range": "bytes=0-3"}
        return known.get(p["name"])

    def body(self, operation):
        name = f"b{self.n}"
        op = {"op": "put", "id": name, "key": new_key(), "if_none_match": "*", "parent": "root", "name": name, "content": "aGk="}
        return {"patchRecord": {"mode": 384, "mtime_ns": "7"}, "batch": {"ops": [op, {"op": "delete", "id": name, "key": new_key(),
                "if_match": "*", "after": [0]}]}, "getMany": {"ids": ["seed", "gone", "never"]},
                "enrol": {"dk_pub": POINT, "curve": "p256", "device_id": "laptop", "name": "L"}, "kek": {"nonce": NONCE},
                "rotateDevice": {"nonce": NONCE}, "revokeDevice": {}, "trustDevice": {"untrusted": False},
                "rotateMany": {"account": "tester"}, "addAccount": {"name": "other"}, "closeAccount": {"name": "other"},
                "grantStore": {"account": "tester"},
                "addToken": {"account": "other", "stores": "main", "readOnly": True, "admin": False, "expiresAt": 0}}[operation.id]

    def valid(self, operation):
        """A request that the document allows, and that mostly does something."""
        admin = "admin" in operation.node["tags"]
        headers = [("Host", "x"), ("Authorization", "Bearer " + (self.server.admin_token if admin else self.server.token)),
                   ("Connection", "close")]
        query, in_path = [], {}
        for p in operation.parameters:
            value = self.value(p)
            if p["name"] == "id":
                value = "999999" if operation.id == "revokeToken" else f"p{self.n}" if operation.method == "PUT" else "seed"
            if operation.id == "audit":
                value = "0"
            if operation.id == "deleteRecord" and p["name"] == "id":
                value = "never"
            if operation.id == "putRecord" and p["name"] in ("If-Match", "If-None-Match"):
                value = "*" if p["name"] == "If-None-Match" else None
            if operation.method == "GET" and p["name"].startswith("If-"):
                value = None
            if p["in"] == "path":
                in_path[p["name"]] = value
            elif p["in"] == "query" and p["name"] != "parameters" and value is not None:
                query.append((p["name"], value))
            elif p["in"] == "header" and value is not None:
                headers.append((p["name"], value))
        if operation.id == "query":
            query.append(("name", "seed"))
        body = None
        if operation.body_schema:
            body = json.dumps(self.body(operation)).encode()
        elif operation.body_type:
            body = b"content"
        segments = [in_path[s[1:-1]] if s.startswith("{") else s for s in operation.path[1:].split("/")]
        if operation.id in ("revokeDevice", "trustDevice"):
            segments[2] = "cd" * 16  # of nobody: the one that is enrolled is needed further
        return Request(operation, segments, query, headers, body)

    # --- spoiling; each says in r.bad when the document does not allow what it did ---

    def spoil_path(self, r):
        template = r.operation.path[1:].split("/")
        i = self.rng.randrange(len(template))
        odd = self.rng.choice(ODD_SEGMENTS)
        r.segments[i] = odd
        r.bad = True
        r.not_http |= " " in odd or not odd.isascii()

    def spoil_query(self, r):
        declared = [p for p in r.operation.parameters if p["in"] == "query" and p["name"] != "parameters"]
        if not declared:
            return
        p, text = self.rng.choice(declared), self.rng.choice(ODD_TEXTS)
        old = [v for k, v in r.query if k == p["name"]]
        if old and self.rng.random() < 0.3:
            r.query.append((p["name"], old[0]))
            r.bad = True
            return
        r.query = [(k, v) for k, v in r.query if k != p["name"]] + [(p["name"], re.sub(r"[\s\x00-\x20\x7f&#+]", "%09", text))]
        r.bad |= r.operation.parameter_is_valid(p, text) is False
        r.not_http |= not text.isascii()

    def spoil_header(self, r):
        declared = [p for p in r.operation.parameters if p["in"] == "header"]
        if not declared:
            return
        p, text = self.rng.choice(declared), self.rng.choice(ODD_TEXTS)
        what = self.rng.random()
        have = any(k == p["name"] for k, v in r.headers)
        if what < 0.2 and have:
            r.headers.append((p["name"], self.value(p) or "x"))
            r.bad = True
        elif what < 0.35:
            r.headers = [(k, v) for k, v in r.headers if k != p["name"]]
            r.bad |= bool(p.get("required"))
        else:
            r.headers = [(k, v) for k, v in r.headers if k != p["name"]] + [(p["name"], text)]
            # Blanks around a value are not of it; what a reader's conditions are, is a matter of RFC 9110.
            if r.operation.method not in ("GET", "HEAD"):
                r.bad |= r.operation.parameter_is_valid(p, text.strip(" \t")) is False
            r.bad |= any(c in text for c in "\x01\x7f")

    def nodes(self, value, path=()):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for k, v in items:
            yield from self.nodes(v, path + (k,))

    def spoil_json(self, r):
        if not r.operation.body_schema or r.bad_text:
            return
        try:
            value = json.loads(r.body)
        except ValueError:
            return
        path = self.rng.choice(list(self.nodes(value)))
        odd = self.rng.choice(ODD_VALUES)
        if not path:
            value = odd
        else:
            parent = value
            for k in path[:-1]:
                parent = parent[k]
            if self.rng.random() < 0.2:
                del parent[path[-1]]
            else:
                parent[path[-1]] = odd
        r.body = json.dumps(value).encode()
        self.judge_json(r, value)

    def judge_json(self, r, value):
        try:
            r.body.decode()
            bad = bool(self.spec.errors(r.operation.body_schema, value)) or "\\ud800" in r.body.decode()
        except (UnicodeError, RecursionError):
            bad = True
        # A batch refuses its operations each by itself, inside a 200.
        if r.operation.id == "batch":
            bad = not isinstance(value, dict) or not isinstance(value.get("ops"), list)
        r.bad_json = bad

    def spoil_json_text(self, r):
        if not r.operation.body_schema:
            return
        text = r.body
        odd = self.rng.choice([text[:-1], text + b"}", text + b"\0", b"\xef\xbb\xbf" + text, b"", b"[" * 200_000, b'{"a":' * 5000,
                               text.replace(b'"', b"'", 1) if b'"' in text else b"'", text[:-1] + b',"x":1e999999}', b"\xff" + text,
                               text[:-1] + b',"z":1,"z":2}', text[:-1] + b',"\xc3\x28":1}', text.decode().encode("utf-16"), b"{}" * 2,
                               text[:-1] + b',"z":"\x01"}', text[:-1] + b',"z":01}', text[:-1] + b",}", b"NaN", b" " * 100_000])
        if odd.endswith(b'1e999999}') or text == b"{}":
            return
        r.body, r.bad_text = odd, True

    def spoil_lines(self, r):
        at = [i for i, (k, v) in enumerate(r.headers) if k in ("Host", "Authorization")]
        i = self.rng.choice(at)
        k, v = r.headers[i]
        kind = self.rng.randrange(7)
        if kind == 0:
            r.headers.append((k, v))
        elif kind == 1:
            del r.headers[i]
        elif kind == 2:
            r.headers[i] = (k + " ", v)
            r.not_http = True
        elif kind == 3:
            r.headers.append(("Content-Encoding", self.rng.choice(["gzip", "br", "identity, gzip", "x"])))
        elif kind == 4:
            r.headers += [(f"X-{n}", "1") for n in range(70)]
        elif kind == 5:
            r.headers.append(("X-Long", "l" * self.rng.choice([17_000, 40_000])))
            r.not_http = True
        else:
            r.headers[i] = (k, v + "\x01" if k == "Host" else v[:-1])
        r.bad = True

    def spoil_framing(self, r):
        body = r.body or b""
        chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        hidden = HIDDEN % self.server.token.encode()
        r.headers = [(k, v) for k, v in r.headers if k not in ("Content-Length", "Transfer-Encoding")]
        n, te = str(len(body)), "Transfer-Encoding"
        headers, r.body, r.tail = self.rng.choice([
            ([("Content-Length", n), (te, "chunked")], chunked, hidden),
            ([(te, "chunked"), ("Content-Length", "0")], chunked, hidden),
            ([("Content-Length", n), ("Content-Length", str(len(body) + 1))], body, hidden),
            ([("Content-Length", "+" + n)], body, hidden),
            ([("Content-Length", "-1")], body, hidden),
            ([("Content-Length", n + ", " + n)], body, hidden),
            ([("Content-Length", "0x5")], body, hidden),
            ([("Content-Length", "18446744073709551617")], body, hidden),
            ([(te, "xchunked")], chunked, hidden),
            ([(te, "chunked, identity")], chunked, hidden),
            ([(te, "identity"), ("Content-Length", n)], body, hidden),
            ([(te, "\x0bchunked")], chunked, hidden),
            ([(te + " ", "chunked"), ("Content-Length", n)], chunked, hidden),
            ([(te, "chunked"), (te, "identity")], chunked, hidden),
            ([(te, "chunked")], b"-1\r\nx\r\n0\r\n\r\n", hidden),
            ([(te, "chunked")], b"fffffffffffffffff\r\nx\r\n0\r\n\r\n", hidden),
            ([(te, "chunked")], b"5 5\r\nhello\r\n0\r\n\r\n", hidden),
            ([(te, "chunked")], b"0x5\r\nhello\r\n0\r\n\r\n", hidden),
            ([(te, "chunked")], b"3\r\nhello\r\n0\r\n\r\n", hidden),
            ([("X", "y\n" + te + ": chunked"), ("Content-Length", n)], body, hidden),
            ([("Content-Length", n), ("X", "y\r\n folded")], body, b""),
        ])
        r.headers += headers
        r.bad = r.not_http = True
        if any("folded" in v for _, v in headers):
            r.bad = False  # old folding may be read as a blank

    # --- judging ---

    def one(self, operation):
        self.n += 1
        r = self.valid(operation)
        # The framing comes last: it counts the bytes of what the others made.
        for spoil in sorted(self.rng.sample(self.spoilers, self.rng.choice([0, 1, 1, 1, 2])), key=self.spoilers.index):
            spoil(r)
        data = r.bytes()
        before = self.state()
        answers = self.exchange(data, 0.5 if r.not_http else 10, r.operation.method)
        self.judge(r, data, answers, before)

    def state(self):
        """All that a refusal leaves as it is: not the highest number a device sent, and not how far a job is."""
        version = self.db.execute("PRAGMA data_version").fetchone()
        if version != self.seen[0]:
            self.seen = version, {t: self.db.execute(f"SELECT {'job_id' if t == 'jobs' else '*'} FROM {t}").fetchall()
                                  for t in self.tables}
        return self.seen[1]

    def exchange(self, data, timeout, method):
        out = b""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=timeout) as s:
            try:
                s.sendall(data)
            except OSError:
                pass
            try:
                while piece := s.recv(1 << 16):
                    out += piece
            except OSError:
                pass
        return self.split(out, method)

    def split(self, out, method):
        answers, whole = [], out
        while out:
            head, _, rest = out.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
            assert re.fullmatch(r"HTTP/1\.1 [1-5][0-9]{2} .*", lines[0]), whole
            status = int(lines[0].split()[1])
            if "cachet-instance" not in headers and status >= 200:
                # The library's own words, the last on the connection (it repeats the header to a HEAD).
                assert b"achet" not in rest, whole
                return answers + [(status, headers, rest)]
            n = 0 if method == "HEAD" or status in (204, 304) else int(headers.get("content-length", 0))
            if status >= 200:
                answers.append((status, headers, rest[:n]))
            out = rest[n:]
        return answers

    def judge(self, r, data, answers, before):
        what = (r.operation.id, data[:1500], answers)
        assert self.server.process.poll() is None, what
        assert len(answers) == 1 or (r.not_http and not answers), what
        if not answers:
            assert self.state() == before, what
            return
        status, headers, body = answers[0]
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if r.not_http and "cachet-instance" not in headers:
            assert status >= 400, what
        else:
            assert headers.get("cachet-instance") == self.instance, what
            assert status != 500, what
            faults = r.operation.faults(status, headers, body) if not (status == 404 and b"no-resource" in body) else []
            assert not faults, (faults, what)
        assert status >= 400 or not (r.bad or r.bad_json or r.bad_text), what
        if status >= 400 and status != 412:
            after = self.state()
            assert after == before, ("a refusal changed the database", [t for t in after if after[t] != before[t]], what)

    def finish(self):
        """Nothing was smuggled in, nothing is left over, the tree is sound, the audit log whole."""
        client = self.server.client()
        records, _ = client.everything()
        assert "smuggled" not in records
        assert len({(x["parent"], x["name"]) for x in records.values()}) == len(records)
        client.close()
        self.server.admin("audit", "--verify", str(self.server.dir))
        end = time.monotonic() + 20
        while any(p.is_file() for p in (self.server.dir / "tmp").rglob("*")):
            assert time.monotonic() < end, "an upload that was refused left a file"
            time.sleep(0.05)
        self.db.close()

    def run(self, rounds=None, seconds=None):
        end = time.monotonic() + (seconds or 1e9)
        done = 0
        while time.monotonic() < end and done != rounds:
            for operation in self.spec.operations:
                self.one(operation)
            done += 1


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--seconds", type=float, default=60)
    a.add_argument("--seed", type=int, default=int(time.time()))
    a = a.parse_args()
    print(f"seed {a.seed}", flush=True)
    with tempfile.TemporaryDirectory() as home:
        server = start(home)
        try:
            f = Fuzzer(server, a.seed)
            f.run(seconds=a.seconds)
            f.finish()
        finally:
            server.close()
    print(f"{f.n} requests, answers {dict(sorted(f.statuses.items()))}: no finding")


if __name__ == "__main__":
    main()
