"""A server of the test's own, and a client of the protocol that shows every byte: http.client and nothing above it.

The server under test is `cachet serve` (CACHET_BIN, default build/cli/cachet). Where a test needs bounds that its options
do not offer, it is tests/tools/serve_main (CACHET_SERVE_BIN, default: beside it), the same library with more options;
CACHET_SERVE_BIN alone makes it serve_main everywhere.
"""
import base64
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _build():
    return pathlib.Path(os.environ.get("CACHET_BIN", ROOT / "build" / "cli" / "cachet")).parent.parent


def command(bounds=False):
    """The words before the options."""
    tool = os.environ.get("CACHET_SERVE_BIN")
    if tool and (bounds or "CACHET_BIN" not in os.environ):
        return [tool]
    if bounds:
        return [str(_build() / "tests" / "tools" / "serve_main")]
    return [str(_build() / "cli" / "cachet"), "serve"]


def new_key():
    return os.urandom(16).hex()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def problem(self):
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        p = self.json
        assert p["status"] == self.status and p["type"].startswith("urn:cachet:") and p["title"]
        assert p["instance_id"] == self.headers["Cachet-Instance"]
        return p["type"][len("urn:cachet:"):]

    @property
    def record(self):
        return json.loads(self.headers["Cachet-Record"])

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Client:
    """One keep-alive connection with a token."""

    def __init__(self, port, token, store="main", device=None):
        self.port, self.token, self.store, self.device = port, token, store, device
        self.seq = 0
        self.connection = None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def call(self, method, path, body=None, headers=None, timeout=90):
        if not self.connection:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        h = {"Authorization": "Bearer " + self.token}
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        h.update(headers or {})
        h = {k: v for k, v in h.items() if v is not None}
        try:
            self.connection.request(method, path, body=body, headers=h)
            r = self.connection.getresponse()
            answer = Answer(r.status, r.headers, r.read())
        except BaseException:
            self.close()
            raise
        assert answer.headers["Cachet-Instance"], answer
        if r.will_close:
            self.close()
        return answer

    def url(self, record):
        return f"/v1/stores/{self.store}/records/{record}"

    def mutation_headers(self, key):
        h = {"Idempotency-Key": key or new_key()}
        if self.device:
            self.seq += 1
            h.update({"Cachet-Device": self.device, "Cachet-Seq": str(self.seq)})
        return h

    def put(self, record, content=b"", *, name=None, parent="root", match=None, key=None, kind=None, **extra):
        h = self.mutation_headers(key)
        if match is None:
            h["If-None-Match"] = "*"
        else:
            h["If-Match"] = match
        if name is not None:
            h["Cachet-Parent"], h["Cachet-Name"] = parent, quote(name)
        if kind:
            h["Cachet-Kind"] = kind
        h.update({k.replace("_", "-"): v for k, v in extra.items()})
        return self.call("PUT", self.url(record), content, h)

    def mkdir(self, record, name, parent="root"):
        a = self.put(record, name=name, parent=parent, kind="dir")
        assert a.status == 201, a
        return a.json

    def make(self, record, name, content=b"x", parent="root"):
        a = self.put(record, content, name=name, parent=parent)
        assert a.status == 201, a
        return a.json

    def patch(self, record, match, body, key=None):
        h = self.mutation_headers(key)
        if match:
            h["If-Match"] = match
        return self.call("PATCH", self.url(record), body, h)

    def delete(self, record, match, key=None):
        h = self.mutation_headers(key)
        if match:
            h["If-Match"] = match
        return self.call("DELETE", self.url(record), None, h)

    def get(self, record, **headers):
        return self.call("GET", self.url(record), None, {k.replace("_", "-"): v for k, v in headers.items()})

    def batch(self, ops, **headers):
        return self.call("POST", f"/v1/stores/{self.store}/batch", {"ops": ops},
                         {k.replace("_", "-"): v for k, v in headers.items()})

    def changes(self, since="", **query):
        q = "&".join([f"since={since}"] + [f"{k}={v}" for k, v in query.items()])
        return self.call("GET", f"/v1/stores/{self.store}/changes?{q}")

    def everything(self):
        """All live records by id, and the cursor behind them."""
        records, cursor = {}, ""
        while True:
            a = self.changes(cursor, limit=10000)
            assert a.status == 200, a
            for r in a.json["changes"]:
                if r.get("deleted"):
                    records.pop(r["id"], None)
                else:
                    records[r["id"]] = r
            cursor = a.json["cursor"]
            if not a.json["more"]:
                assert a.json["records"] == len(records)
                return records, cursor


def quote(name):
    if isinstance(name, str):
        name = name.encode()
    return "".join(chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in "-._~") else f"%{b:02X}" for b in name)


def op_put(record, name, content=b"", parent="root", **extra):
    op = {"op": "put", "id": record, "key": new_key(), "if_none_match": "*", "parent": parent, "name": name,
          "content": base64.b64encode(content).decode()}
    op.update(extra)
    return op


class Server:
    def __init__(self, home, *options):
        self.home = pathlib.Path(home)
        self.dir = self.home / "data"
        self.options = options
        self.port_file = self.home / "port"
        self.log = self.home / "log"
        self.process = None
        self.port = 0
        self.admin("store", "add", "main", str(self.dir))
        self.token = self.new_token()

    def admin(self, *args):
        return subprocess.run([*command(), *args], check=True, capture_output=True, text=True).stdout.strip()

    def import_tree(self, source, store="main"):
        """(files, directories, symbolic links, bytes, skipped)"""
        out = self.admin("import", "--json", "--store", store, str(self.dir), str(source))
        j = json.loads(out)
        return j["files"], j["directories"], j["symlinks"], j["bytes"], j["skipped"]

    def new_token(self, *args, account="tester"):
        return self.admin("token", "add", "--account", account, *args, str(self.dir))

    def start(self):
        self.port_file.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command(bool(self.options)), str(self.dir), "--listen", f"127.0.0.1:{self.port}", "--port-file",
                 str(self.port_file), *self.options], stdout=log, stderr=log)
        end = time.monotonic() + 30
        while not self.port_file.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.005)
        self.port = int(self.port_file.read_text())
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.process = None
        assert code == 0, self.log.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=30)
        self.process = None

    def close(self):
        if self.process:
            died = self.process.poll()
            if died is None:
                self.stop()
            else:
                self.process = None
                raise AssertionError(f"the server ended by itself ({died}): {self.log.read_text()}")
        assert "Sanitizer" not in self.log.read_text(), self.log.read_text()

    def client(self, token=None, **kw):
        return Client(self.port, token or self.token, **kw)

    def raw(self, data, timeout=30, shut=False):
        """Sends bytes as they are; everything that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            try:
                s.sendall(data)
                if shut:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            out = b""
            try:
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    out += piece
            except (ConnectionResetError, socket.timeout):
                pass
            return out
