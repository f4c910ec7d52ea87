"""Fixtures of the integration tests: a real server, a real volume, a real mount, each test its own.

CACHET_BIN names the binary under test (default: build/cli/cachet below the project). Everything lives in a
temporary directory, servers listen on free loopback ports, and every exit path unmounts.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("CACHET_BIN", ROOT / "build" / "cli" / "cachet"))
WAIT_S = 30


def wait_for(what, timeout=WAIT_S, step=0.05):
    """The first true value of what(), or an AssertionError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {timeout} s: {what}")
        time.sleep(step)


def is_mounted(path):
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as f:
        return any(line.split(" ")[1] == str(path) for line in f)


def unmount(path):
    for flags in ("-u", "-uz"):
        if not is_mounted(path):
            return
        subprocess.run(["fusermount3", flags, str(path)], check=False, capture_output=True)


def kill_and_wait(pid, sig, timeout=10):
    """Sends `sig` to a process that is not our child and waits until it is gone."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        return
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}/stat").exists()
             or (pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
                 and len(os.listdir(f"/proc/{pid}/task")) <= 1), timeout)


class Server:
    """`cachet serve` on a data directory; stop() and start() keep the port."""

    def __init__(self, home, binary=BIN):
        self.dir = home / "server"
        self.port_file = home / "server.port"
        self.log = home / "server.log"
        self.binary = binary
        self.options = []
        self.port = 0
        self.process = None
        self.token = self.admin("token", "add", "--account", "tester", str(self.dir)).strip()

    def admin(self, *args):
        return subprocess.run([str(self.binary), "serve", *args], check=True, capture_output=True, text=True).stdout

    def start(self):
        self.port_file.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.binary), "serve", str(self.dir), "--listen", f"127.0.0.1:{self.port}",
                 "--port-file", str(self.port_file), *self.options], stdout=log, stderr=log)
        self.port = int(wait_for(lambda: self.port_file.exists() and self.port_file.read_text().strip()))
        return self

    def stop(self, sig=signal.SIGTERM):
        if self.process:
            self.process.send_signal(sig)
            self.process.wait(20)
            self.process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def request(self, method, path, body=None, headers=None):
        import http.client
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            c.request(method, path, body=body, headers={"Authorization": f"Bearer {self.token}", **(headers or {})})
            r = c.getresponse()
            return r.status, dict(r.getheaders()), r.read()
        finally:
            c.close()

    def records(self, store):
        """{path: record} of all live records of a store."""
        by_id, cursor, more = {}, "", True
        while more:
            status, _, body = self.request("GET", f"/v1/stores/{store}/changes?since={cursor}&limit=5000")
            assert status == 200, body
            page = json.loads(body)
            for r in page["changes"]:
                if r.get("deleted"):
                    by_id.pop(r["id"], None)
                else:
                    by_id[r["id"]] = r
            cursor, more = page["cursor"], page["more"]

        def path(r):
            return r["name"] if r["parent"] == "root" else path(by_id[r["parent"]]) + "/" + r["name"]
        return {path(r): r for r in by_id.values()}

    def read(self, store, path):
        record = self.records(store)[path]
        status, _, body = self.request("GET", f"/v1/stores/{store}/records/{record['id']}")
        assert status == 200, body
        return body

    def write(self, store, path, content):
        """Another device changes (or makes, in an existing directory) a file."""
        records = self.records(store)
        key = os.urandom(16).hex()
        headers = {"Idempotency-Key": key, "Cachet-Device": "f" * 32, "Cachet-Seq": str(time.time_ns())}
        if path in records:
            rid = records[path]["id"]
            headers["If-Match"] = records[path]["etag"]
        else:
            rid = os.urandom(16).hex()
            parent, _, name = path.rpartition("/")
            headers.update({"If-None-Match": "*", "Cachet-Name": name,
                            "Cachet-Parent": records[parent]["id"] if parent else "root"})
        status, _, body = self.request("PUT", f"/v1/stores/{store}/records/{rid}", content, headers)
        assert status in (200, 201), (status, body)

    def delete(self, store, path):
        r = self.records(store)[path]
        status, _, body = self.request("DELETE", f"/v1/stores/{store}/records/{r['id']}", None, {
            "Idempotency-Key": os.urandom(16).hex(), "Cachet-Device": "f" * 32,
            "Cachet-Seq": str(time.time_ns()), "If-Match": r["etag"]})
        assert status == 200, body


class Client:
    """One device: its own home, configuration and mount point."""

    def __init__(self, home, server, name="client", store="notes", binary=BIN, cache_size="500MB", key=None):
        self.home = home / name
        self.home.mkdir()
        self.mnt = self.home / "mnt"
        self.mnt.mkdir()
        self.binary = binary
        self.env = {**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"),
                    "XDG_STATE_HOME": str(self.home / "state"), "XDG_RUNTIME_DIR": str(self.home / "run"),
                    "ASAN_OPTIONS": "abort_on_error=1"}
        (self.home / "run").mkdir(mode=0o700)
        token = self.home / "token"
        token.write_text(server.token)
        token.chmod(0o600)
        self.run("init", "--store", store, "--token-file", str(token), "--cache-size", cache_size,
                 *(["--key", key] if key else []), server.url)
        token.unlink()

    def run(self, *args, check=True, timeout=120, **kw):
        r = subprocess.run([str(self.binary), *args], env=self.env, capture_output=True, text=True,
                           timeout=timeout, stdin=subprocess.DEVNULL, **kw)
        if check and r.returncode != 0:
            raise AssertionError(f"cachet {' '.join(args)}: exit {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def mount(self, *args):
        self.run("mount", *args, str(self.mnt))
        return self

    def umount(self):
        self.run("umount", str(self.mnt))
        wait_for(lambda: not is_mounted(self.mnt))

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def sync(self, timeout=60, *args):
        self.run("sync", "--wait", "--timeout", str(timeout), *args, timeout=timeout + 30)

    def pid(self):
        return self.status()["pid"]

    def sigkill(self):
        kill_and_wait(self.pid(), signal.SIGKILL)

    @property
    def volume(self):
        return next((self.home / "state" / "cachet").iterdir())

    def processes(self):
        """Those of this device that are still there."""
        found = []
        for pid in pathlib.Path("/proc").iterdir():
            if not pid.name.isdigit():
                continue
            try:
                line = (pid / "cmdline").read_bytes()
                environ = (pid / "environ").read_bytes()
            except OSError:
                continue
            if str(self.binary).encode() in line and str(self.home).encode() in environ + line:
                found.append(int(pid.name))
        return found

    def close(self):
        was_mounted = is_mounted(self.mnt)
        unmount(self.mnt)
        if was_mounted and os.environ.get("CACHET_COVERAGE"):  # a daemon writes what it counted at its own end
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not self.processes(), 5)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def home():
    path = pathlib.Path(tempfile.mkdtemp(prefix="cachet-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(home):
    s = Server(home)
    s.admin("store", "add", "notes", str(s.dir))
    s.start()
    yield s
    s.stop()


@pytest.fixture
def make_client(home, server):
    made = []

    def make(name="client", **kw):
        c = Client(home, server, name=name, **kw)
        made.append(c)
        return c
    yield make
    for c in made:
        c.close()


@pytest.fixture
def client(make_client):
    return make_client().mount()


@pytest.fixture
def small_disk(make_client):
    """A mounted volume whose disk can be filled."""
    if os.geteuid() != 0:
        pytest.skip("mounts a small tmpfs: root only")
    c = make_client()
    state, aside = c.home / "state", c.home / "aside"
    state.rename(aside)
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(state)], check=True)
    try:
        shutil.copytree(aside, state, dirs_exist_ok=True)
        yield c.mount()
    finally:
        c.close()
        subprocess.run(["umount", "-l", str(state)], check=True)


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()
