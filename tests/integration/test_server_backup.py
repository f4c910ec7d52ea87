"""Backup of a running server, and what clients see of a restored one."""
import fcntl
import hashlib
import os
import shutil
import subprocess
import time

import pytest

from conftest import Client as Mount, Server as Cachet, wait_for
from server_fixtures import Server, command, new_key
from test_server_load import Writer

CACHET = os.environ.get("CACHET_BIN") or command()[0]


def cachet(*args, check=True):
    return subprocess.run([CACHET, "serve", *map(str, args)], check=check, capture_output=True, text=True)


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path).start()
    yield s
    s.close()


def served(home, data):
    """A server on data that are there, with the tokens they have."""
    s = Server.__new__(Server)
    s.home, s.dir, s.options, s.process, s.port = home, data, (), None, 0
    s.port_file, s.log = home / "port2", home / "log2"
    return s.start()


def test_a_backup_under_load_is_of_one_moment(server, tmp_path):
    """What was acknowledged before it is in it; all of it can be read; nothing is half there."""
    writers = [Writer(server, n) for n in range(3)]
    for w in writers:
        w.start()
    time.sleep(0.5)
    copies = []
    for i in range(4):
        before = {w.n: dict(w.model) for w in writers}
        cachet("backup", server.dir, tmp_path / f"b{i}")
        after = {w.n: dict(w.model) for w in writers}
        copies.append((tmp_path / f"b{i}", before, after))
        time.sleep(0.2)
    for w in writers:
        w.finish.set()
    for w in writers:
        w.join()
        assert w.error is None, w.error
    for path, before, after in copies:
        shutil.copy(server.dir / "master.key", path)
        restored = served(tmp_path, path)
        c = restored.client(server.token)
        records, _ = c.everything()
        for n, model in before.items():
            for rid, version in model.items():
                if after[n].get(rid) == version:  # not touched meanwhile
                    assert records[rid]["etag"] == version[2]
        for rid, r in records.items():
            if r["kind"] == "file":
                a = c.get(rid)
                assert a.status == 200 and len(a.body) == r["size"], a
                assert hashlib.sha256(a.body).hexdigest() == r["sha256"]
        c.close()
        restored.close()
        shutil.rmtree(path)


def test_deleted_content_goes_after_the_backup(server, tmp_path):
    """While a backup holds the lock nothing is unlinked; afterwards it is, without a restart."""
    c = server.client()
    etag = c.make("x", "x", os.urandom(100_000))["etag"]
    files = lambda: [p for p in (server.dir / "content").rglob("*") if p.is_file()]
    assert len(files()) == 1
    with open(server.dir / "backup.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert c.delete("x", etag).status == 200
        time.sleep(0.3)
        assert len(files()) == 1
    wait_for(lambda: not files())
    with open(server.dir / "backup.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        etag = c.make("y", "y", os.urandom(100_000))["etag"]
        c.delete("y", etag)
        server.stop()  # does not wait for it
    server.start()
    assert not files()


def test_a_backup_is_whole_or_not_there(server, tmp_path):
    server.client().make("x", "x", os.urandom(100_000))
    dest = tmp_path / "b"
    cachet("backup", server.dir, dest)
    assert not (tmp_path / "b.part").exists() and not (dest / "master.key").exists()
    assert (dest / "records.db").stat().st_mode & 0o077 == 0
    r = cachet("backup", server.dir, dest, check=False)
    assert r.returncode != 0 and "is there" in r.stderr
    for f in (server.dir / "content").rglob("*"):
        if f.is_file():
            f.unlink()
    r = cachet("backup", server.dir, tmp_path / "c", check=False)
    assert r.returncode != 0 and not (tmp_path / "c").exists() and not (tmp_path / "c.part").exists()
    r = cachet("backup", tmp_path / "nothing", tmp_path / "d", check=False)
    assert r.returncode != 0 and not (tmp_path / "nothing").exists()


def test_a_restored_server_has_a_new_epoch_each_time(server, tmp_path):
    c = server.client()
    c.make("x", "x")
    v1 = c.call("GET", "/v1").json
    _, cursor = c.everything()
    cachet("backup", server.dir, tmp_path / "b")
    epochs = {v1["epoch"]}
    for i in range(2):
        shutil.copytree(tmp_path / "b", tmp_path / f"r{i}")
        shutil.copy(server.dir / "master.key", tmp_path / f"r{i}")
        restored = served(tmp_path, tmp_path / f"r{i}")
        c2 = restored.client(server.token)
        v2 = c2.call("GET", "/v1").json
        assert v2["instance"] == v1["instance"] and v2["epoch"] not in epochs
        a = c2.changes(cursor)
        assert a.status == 410 and a.problem == "cursor-gone"
        restored.stop()
        restored.start()
        c2.close()
        c2.port = restored.port
        assert c2.call("GET", "/v1").json["epoch"] == v2["epoch"], "only once"
        epochs.add(v2["epoch"])
        c2.close()
        restored.close()
    assert c.call("GET", "/v1").json["epoch"] == v1["epoch"]


def test_a_backup_without_the_master_key_says_what_to_do(server, tmp_path):
    cachet("backup", server.dir, tmp_path / "b")
    r = subprocess.run([CACHET, "serve", str(tmp_path / "b"), "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=10)
    assert r.returncode != 0 and "put your copy of it there, as master.key" in r.stderr
    assert not (tmp_path / "b" / "master.key").exists()


def test_data_that_went_back_another_way_can_be_marked(server):
    epoch = server.client().call("GET", "/v1").json["epoch"]
    assert cachet("restored", server.dir, check=False).returncode == 8
    server.stop()
    cachet("restored", server.dir)
    server.start()
    assert server.client().call("GET", "/v1").json["epoch"] != epoch


def test_a_mount_stops_at_a_restored_server_and_goes_on_when_told(tmp_path):
    server = Cachet(tmp_path)
    server.admin("store", "add", "notes", str(server.dir))
    server.start()
    m = None
    try:
        server.write("notes", "a", b"one")
        cachet("backup", server.dir, tmp_path / "b")
        m = Mount(tmp_path, server).mount()
        (m.mnt / "later").write_bytes(b"after the backup")
        m.sync()
        server.stop()
        shutil.copy(server.dir / "master.key", tmp_path / "key")
        shutil.rmtree(server.dir)
        shutil.copytree(tmp_path / "b", server.dir)
        shutil.copy(tmp_path / "key", server.dir / "master.key")
        server.start()
        wait_for(lambda: m.status()["link"].get("restored_server") if isinstance(m.status().get("link"), dict)
                 else m.status().get("restored_server"))
        assert (m.mnt / "later").read_bytes() == b"after the backup"
    finally:
        if m:
            m.close()
        server.stop()


@pytest.mark.parametrize("option", ["--keep-keys", "--keep-tombstones"])
def test_what_the_protocol_promises_to_keep_is_kept(tmp_path, option):
    r = subprocess.run([CACHET, "serve", str(tmp_path / "d"), "--listen", "127.0.0.1:0", option, "29d"],
                       capture_output=True, text=True, check=False, timeout=30)
    assert r.returncode == 2, r
