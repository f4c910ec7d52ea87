"""Content that is brought here before it is needed, and kept: pin, warm, free, ready, record, and reading ahead."""
import concurrent.futures
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest
from cli_fixtures import fails
from conftest import Client, wait_for
from hostile import Hostile


@pytest.fixture
def tree(server, home):
    """notes/{a,b}/0..59, small files; notes/large, 3 MiB"""
    src = home / "src"
    for d in "ab":
        (src / d).mkdir(parents=True)
        for i in range(60):
            (src / d / f"{i:02}").write_text(f"file {d} {i}\n" * 20)
    (src / "large").write_bytes(os.urandom(3 << 20))
    server.stop()
    server.admin("import", "--store", "notes", str(server.dir), str(src))
    server.start()
    return src


@pytest.fixture
def device(tree, make_client):
    """A mounted client that has names and no content."""
    c = make_client().mount()
    wait_for(lambda: (c.mnt / "large").exists())
    return c


def verb(client, *args):
    return json.loads(client.run(*args[:1], "--json", *args[1:]).stdout)


def is_here(client, path):
    return verb(client, "stat", str(client.mnt / path))["state"] == "full"


def pinned_is_here(client):
    pins = verb(client, "pin", "--list")
    return pins["missing_files"] == 0 and pins


def test_pinned_is_fetched_at_once_and_readable_offline(device, tree):
    device.run("pin", str(device.mnt / "a"))
    assert wait_for(lambda: pinned_is_here(device))["files"] == 60
    device.run("offline")
    for i in range(60):
        assert (device.mnt / "a" / f"{i:02}").read_bytes() == (tree / "a" / f"{i:02}").read_bytes()
    with pytest.raises(OSError):
        (device.mnt / "b" / "00").read_bytes()


def test_what_the_server_adds_or_changes_below_a_pin_is_fetched(device, server):
    device.run("pin", str(device.mnt / "a"))
    wait_for(lambda: pinned_is_here(device))
    server.write("notes", "a/new", b"added")
    server.write("notes", "a/00", b"changed")
    wait_for(lambda: (device.mnt / "a" / "new").exists() and is_here(device, "a/new"))
    wait_for(lambda: os.stat(device.mnt / "a" / "00").st_size == 7 and is_here(device, "a/00"))
    device.run("offline")
    assert (device.mnt / "a" / "new").read_bytes() == b"added"
    assert (device.mnt / "a" / "00").read_bytes() == b"changed"


def test_pins_of_an_unmounted_volume_are_fetched_at_the_next_mount(device):
    config = next((device.home / "config" / "cachet").glob("*.json"))
    o = json.loads(config.read_text())
    o["mountpoint"] = str(device.mnt)
    config.write_text(json.dumps(o))
    device.umount()
    device.run("pin", str(device.mnt / "a" / "*5"))
    assert verb(device, "pin", "--list")["missing_files"] == 6
    device.mount()
    wait_for(lambda: pinned_is_here(device))
    device.umount()
    assert verb(device, "free", str(device.mnt))["pinned"] == 6


def test_pins_beyond_the_bound_are_refused(server, home, make_client):
    server.write("notes", "huge", os.urandom(40 << 20))
    c = make_client(cache_size="36MB").mount()
    wait_for(lambda: (c.mnt / "huge").exists())
    assert "bound" in fails(c, 1, "pin", str(c.mnt / "huge"))
    assert verb(c, "pin", "--list")["pins"] == []


def test_pinned_content_stays_while_others_make_room(server, make_client):
    for i in range(12):
        server.write("notes", f"f{i}", os.urandom(4 << 20))
    c = make_client(cache_size="36MB").mount()
    wait_for(lambda: (c.mnt / "f11").exists())
    c.run("pin", str(c.mnt / "f0"))
    wait_for(lambda: pinned_is_here(c))
    for i in range(1, 12):
        (c.mnt / f"f{i}").read_bytes()
    assert is_here(c, "f0")
    assert not is_here(c, "f1")


def test_free_drops_clean_content_and_nothing_else(device):
    device.run("warm", str(device.mnt))
    (device.mnt / "mine").write_bytes(b"local")
    device.run("offline")
    (device.mnt / "b" / "00").write_bytes(b"not sent")
    device.run("pin", str(device.mnt / "a"))
    r = verb(device, "free", str(device.mnt))
    assert r["pinned"] + r["kept"] >= 61 and r["files"] >= 59
    assert (device.mnt / "b" / "00").read_bytes() == b"not sent"
    assert (device.mnt / "a" / "00").stat().st_size > 0 and is_here(device, "a/00")
    assert not is_here(device, "b/01") and not is_here(device, "large")


def test_warm_fetches_all_with_few_requests_and_goes_on_after_a_break(device, server, tree):
    server.stop()
    assert device.run("warm", str(device.mnt), check=False).returncode == 4
    server.start()
    device.run("online")
    before = device.status()["requests"]
    r = verb(device, "warm", str(device.mnt / "a"), str(device.mnt / "b"))
    assert (r["files"], r["failed"]) == (120, 0)
    assert device.status()["requests"] - before < 20
    assert verb(device, "warm", str(device.mnt / "[ab]"))["files"] == 0
    assert verb(device, "warm", str(device.mnt))["files"] == 1
    device.run("offline")
    assert (device.mnt / "large").read_bytes() == (tree / "large").read_bytes()
    assert (device.mnt / "b" / "59").read_bytes() == (tree / "b" / "59").read_bytes()


def test_warm_needs_a_mounted_volume_and_a_name_that_is_there(device):
    fails(device, 1, "warm", str(device.mnt / "nothing"))
    device.umount()
    config = next((device.home / "config" / "cachet").glob("*.json"))
    o = json.loads(config.read_text())
    o["mountpoint"] = str(device.mnt)
    config.write_text(json.dumps(o))
    fails(device, 3, "warm", str(device.mnt))


def test_ready_says_what_is_missing(device, server):
    assert device.run("ready", "--for", "3d").stdout == "ready\n"
    device.run("offline")
    device.run("pin", str(device.mnt / "a"), str(device.mnt / "b*x"))
    (device.mnt / "a" / "unsent").write_bytes(b"x")
    r = device.run("ready", check=False)
    assert r.returncode == 9
    for word in ("reached", "60 pinned files", "b*x", "1 changes"):
        assert word in r.stdout, r.stdout
    device.run("unpin", str(device.mnt / "b*x"))
    device.run("online")
    wait_for(lambda: pinned_is_here(device))
    assert verb(device, "ready")["ready"]


def test_ready_sees_a_refused_token(device, server):
    tokens = json.loads(server.admin("token", "ls", "--json", str(server.dir)))
    token = (tokens["tokens"] if isinstance(tokens, dict) else tokens)[0]
    server.admin("token", "revoke", str(token["id"]), str(server.dir))
    wait_for(lambda: "token" in device.run("ready", check=False).stdout)


def test_ready_says_when_the_lease_ends_too_soon(home, server):
    c = Client(home, server, name="leased", key="server")  # 72 h
    try:
        c.mount()
        wait_for(lambda: c.status()["state"] == "online")
        assert c.run("ready", "--for", "3d").stdout == "ready\n"
        r = c.run("ready", "--for", "73h", check=False)
        assert r.returncode == 9 and re.fullmatch(r"the lease of the key ends in 7[12] h .*\n", r.stdout), r.stdout
        c.run("offline")
        assert "lease" not in c.run("ready", "--for", "70h", check=False).stdout
        problems = json.loads(c.run("ready", "--for", "73h", "--json", check=False).stdout)["problems"]
        assert [p["kind"] for p in problems] == ["offline", "lease"]
    finally:
        c.close()


class Slow(Hostile):
    """Content is answered when a test says so."""
    go = threading.Event()

    def good_get(self, *args):
        self.go.wait(60)
        return super().good_get(*args)


def test_readers_of_one_piece_share_a_request(home):
    server = Slow({"f": os.urandom(1 << 20)})
    server.token = "t0ken"
    client = Client(home, server)

    def read(i):  # of one chunk, each another page, so that none waits for another's in the kernel
        fd = os.open(client.mnt / "f", os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            return os.pread(fd, 4096, i * 4096)
        finally:
            os.close(fd)

    try:
        client.mount()
        wait_for((client.mnt / "f").exists)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            reads = [pool.submit(read, i) for i in range(6)]
            wait_for(lambda: any("/records/" in target for _, target, _ in server.seen))
            time.sleep(0.5)  # for what should not come
            server.go.set()
            data = next(iter(server.contents.values()))
            assert [r.result(60) for r in reads] == [data[i * 4096:(i + 1) * 4096] for i in range(6)]
        assert len([target for _, target, _ in server.seen if "/records/" in target]) == 1
    finally:
        server.go.set()
        client.close()
        server.close()


def test_record_pins_what_a_command_and_its_orphans_open(device):
    r = device.run("record", "--set", "job", "--", "sh", "-c", "cat 01 02; (sleep 0.1; cat 03 >out) & exit 7",
                   check=False, cwd=device.mnt / "a")
    assert r.returncode == 7
    r = device.run("record", "--set", "two", "--", "sh", "-c", "cat 05 06 | wc -l; setsid sh -c 'cat 07' & wait",
                   cwd=device.mnt / "a")
    pins = verb(device, "pin", "--list")
    sets = {s["set"]: s["files"] for s in pins["sets"]}
    assert sets["job"] >= 2 and sets["two"] == 3
    (device.mnt / "b" / "00").read_bytes()  # not of the command
    device.run("unpin", "--set", "job")
    verb(device, "free", str(device.mnt))
    assert is_here(device, "a/05") and not is_here(device, "b/00")
    fails(device, 1, "unpin", "--set", "job")


def test_reading_through_a_directory_asks_far_less_than_once_a_file(device, tree):
    before = device.status()["requests"]
    assert subprocess.run(["grep", "-r", "-c", "file", str(device.mnt / "a")], check=True,
                          capture_output=True).stdout.count(b":20\n") == 60
    assert device.status()["requests"] - before < 20


@pytest.fixture
def many(server, home):
    """notes/0000 to notes/0999, 1,000 bytes each, that readdir tells in another order"""
    (home / "src").mkdir()
    for i in range(1000):
        (home / "src" / f"{i:04}").write_text(f"{i:04}\n" * 200)
    server.stop()
    server.admin("import", "--store", "notes", str(server.dir), str(home / "src"))
    server.start()


def read_in_turn(client, names):
    """How many requests and bytes that took."""
    before = client.status()
    for name in names:
        assert (client.mnt / name).read_text() == f"{name}\n" * 200
    time.sleep(0.3)  # for what nobody waits for
    after = client.status()
    return after["requests"] - before["requests"], after["fetched_bytes"] - before["fetched_bytes"]


def test_reading_ahead_follows_readdir_or_names(many, make_client):
    for order in "readdir", "names":
        c = make_client(order).mount()
        wait_for(lambda c=c: len(os.listdir(c.mnt)) == 1000)
        names = os.listdir(c.mnt)
        assert names != sorted(names)
        requests, _ = read_in_turn(c, sorted(names) if order == "names" else names)
        assert requests < 60


def test_who_reads_a_few_files_of_many_fetches_a_few_times_that(many, make_client):
    c = make_client().mount()
    wait_for(lambda: len(os.listdir(c.mnt)) == 1000)
    _, fetched = read_in_turn(c, [f"{i:04}" for i in range(0, 1000, 50)])
    assert 20000 <= fetched < 20 * 20 * 1000  # 324 files; some more where a jump happens to go where the last lot ended


@pytest.mark.parametrize("how", ["problem500", "cut", "login", "json_array", "wrong_instance", "reset_midway"])
def test_a_multi_get_that_fails_costs_nothing_but_speed(home, how):
    contents = {f"{i:02}": b"%02d" % i * 50 for i in range(40)}
    server = Hostile(contents)
    server.token = "t0ken"
    server.misbehave("small", how)
    client = Client(home, server)
    try:
        client.mount()
        wait_for(lambda: len(os.listdir(client.mnt)) == 40)
        for name in sorted(contents):
            assert (client.mnt / name).read_bytes() == contents[name]
        assert any(e[1].endswith("/get") for e in server.seen)
    finally:
        client.close()
        server.close()


def test_a_reader_is_served_while_much_is_being_warmed(device, server, home):
    server.write("notes", "huge", os.urandom(64 << 20))
    wait_for(lambda: (device.mnt / "huge").exists())
    p = subprocess.Popen([str(device.binary), "warm", str(device.mnt / "huge")], env=device.env,
                         stdout=subprocess.DEVNULL)
    try:
        (device.mnt / "b" / "00").read_bytes()
    finally:
        assert p.wait(120) == 0
    assert is_here(device, "huge")


class Cutter:
    """A way to the server that breaks each connection after so many bytes."""

    def __init__(self, server, limit):
        self.server, self.limit, self.token = server, limit, server.token
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.socket.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.server.port))
            for pair in ((near, far, 1 << 40), (far, near, self.limit)):
                threading.Thread(target=self.copy, args=pair, daemon=True).start()

    @staticmethod
    def copy(a, b, limit):
        try:
            while limit > 0 and (data := a.recv(min(limit, 65536))):
                b.sendall(data)
                limit -= len(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.socket.close()


def test_a_link_that_breaks_all_the_time_gets_there(server, home):
    content = os.urandom(2 << 20)
    server.write("notes", "f", content)
    way = Cutter(server, 300_000)
    client = Client(home, way)
    try:
        client.mount()
        wait_for(lambda: (client.mnt / "f").exists())
        assert (client.mnt / "f").read_bytes() == content
    finally:
        client.close()
        way.close()
