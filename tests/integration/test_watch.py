"""cachet watch: what other devices change, as JSON lines, in order and without loss."""
import json
import os
import queue
import subprocess
import threading

import pytest
from cli_fixtures import fails
from conftest import WAIT_S, wait_for


class Watch:
    """A running `cachet watch`; next() waits for a line that `want` is true for."""

    def __init__(self, client, *args):
        self.process = subprocess.Popen([str(client.binary), "watch", *args], env=client.env, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.first = self.next()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def next(self):
        return self.lines.get(timeout=WAIT_S)

    def until(self, **want):
        """All lines up to the one that has these members."""
        seen = []
        while not seen or any(seen[-1].get(k) != v for k, v in want.items()):
            seen.append(self.next())
        return seen

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(WAIT_S)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def watch():
    made = []

    def start(*args):
        made.append(Watch(*args))
        return made[-1]
    yield start
    for w in made:
        w.close()


def online(client):
    wait_for(lambda: client.status()["feed_live"])
    return client


def test_the_first_line_is_the_link(client, watch):
    online(client)
    assert watch(client).first["event"] == "link"


def test_created_changed_removed_are_told_in_order(client, server, watch):
    w = watch(online(client))
    server.write("notes", "f", b"one")
    created = w.until(event="created", path="f")[-1]
    assert (created["type"], created["size"]) == ("file", 3)
    server.write("notes", "f", b"longer")
    assert w.until(event="changed", path="f")[-1]["size"] == 6
    server.delete("notes", "f")
    seen = w.until(event="removed", path="f")
    assert [e for e in seen if e["event"] == "created"] == []


def test_a_changed_content_is_one_line(client, server, watch):
    server.write("notes", "f", b"one")
    wait_for(lambda: (client.mnt / "f").exists() and (client.mnt / "f").read_bytes() == b"one")
    w = watch(online(client))
    server.write("notes", "f", b"two")
    server.write("notes", "end", b"")
    seen = w.until(path="end")
    assert [e["event"] for e in seen if e.get("path") == "f"] == ["changed"]


def test_nothing_is_lost_and_a_path_leaves_others_out(client, server, watch):
    (client.mnt / "d").mkdir()
    client.sync()
    all_of_it, below = watch(online(client)), watch(client, str(client.mnt / "d"))
    for i in range(40):
        server.write("notes", f"d/{i}", b"x")
        server.write("notes", f"e{i}", b"x")
    server.write("notes", "d/end", b"")
    server.write("notes", "end", b"")
    paths = {e.get("path") for e in all_of_it.until(path="end")}
    assert {f"d/{i}" for i in range(40)} | {f"e{i}" for i in range(40)} <= paths
    seen = [e["path"] for e in below.until(path="d/end") if "path" in e]
    assert all(p.startswith("d/") for p in seen) and len(seen) == 41


def test_ones_own_changes_are_not_told(client, server, watch):
    w = watch(online(client))
    (client.mnt / "mine").write_bytes(b"x")
    client.sync()
    server.write("notes", "theirs", b"x")
    assert [e for e in w.until(path="theirs") if e.get("path") == "mine"] == []


def test_the_link_and_the_lock_are_told(client, watch):
    w = watch(online(client))
    client.run("offline")
    w.until(event="link", state=client.status()["state"])
    client.run("lock")
    w.until(event="locked")
    client.run("unlock")
    client.run("online")
    w.until(event="link", state="online")
    client.umount()
    assert w.process.wait(WAIT_S) == 3



def test_a_conflict_is_told(client, server, watch):
    f = client.mnt / "f"
    f.write_bytes(b"base")
    client.sync()
    w = watch(online(client))
    client.run("offline")
    f.write_bytes(b"mine")
    server.write("notes", "f", b"theirs")
    client.run("online")
    conflict = w.until(event="conflict")[-1]
    assert conflict["id"] and "conflict" in os.path.basename(conflict["path"])


def test_it_needs_a_mounted_volume(client):
    client.umount()
    fails(client, 3, "watch")


def test_wait_ends_when_it_is_so(client, server):
    online(client)
    f = client.mnt / "f"
    waiting = subprocess.Popen([str(client.binary), "wait", "--timeout", "60", str(f)], env=client.env)
    server.write("notes", "f", b"one")
    assert waiting.wait(WAIT_S) == 0 and f.read_bytes() == b"one"
    server.delete("notes", "f")
    client.run("wait", "--gone", "--timeout", "60", str(f))
    assert not f.exists()
    (client.mnt / "mine").write_bytes(b"x")
    client.run("wait", "--sent", "--timeout", "60", str(client.mnt / "mine"))
    assert server.read("notes", "mine") == b"x"


def test_wait_for_a_change_ends_with_the_next_version(client, server):
    server.write("notes", "f", b"0")
    wait_for(lambda: (client.mnt / "f").exists())
    waiting = subprocess.Popen([str(client.binary), "wait", "--changed", str(client.mnt / "f")], env=client.env)
    n = 0

    def changes():
        nonlocal n
        n += 1
        server.write("notes", "f", b"%d" % n)
        return waiting.poll() is not None
    wait_for(changes, step=0.3)
    assert waiting.returncode == 0


def test_wait_gives_up_and_needs_a_mounted_volume(client):
    fails(client, 10, "wait", "--timeout", "1", str(client.mnt / "never"))
    fails(client, 2, "wait", "--gone", "--sent", str(client.mnt / "never"))
    client.umount()
    fails(client, 2, "wait", str(client.mnt / "never"))
