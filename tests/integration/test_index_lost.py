"""Promise P8: unsent work outlives the index. Real daemon, real mount, real server."""
import json
import os
import shutil

from conftest import digest, wait_for

FILES = 500


def lose_index(client):
    for p in client.volume.glob("index.*"):
        p.unlink()


def fill(root, n):
    """n files, a third synced, the others only closed; some in directories, one large, links, a rename."""
    want = {}
    for i in range(n):
        d = root / f"d{i % 7}" if i % 2 else root
        d.mkdir(exist_ok=True)
        body = os.urandom(200_000 if i % 97 == 0 else 50 + i)
        with open(d / f"f{i}", "wb") as f:
            f.write(body)
            if i % 3 == 0:
                f.flush()
                os.fsync(f.fileno())
        want[str((d / f"f{i}").relative_to(root))] = body
    return want


def test_500_unsent_files_reach_the_origin(server, client):
    """The index is deleted after a SIGKILL with 500 files unsent, some only closed, some synced."""
    root = client.mnt
    (root / "old").write_bytes(b"at the origin")
    (root / "moved").write_bytes(b"to be moved")
    (root / "edited").write_bytes(b"before")
    (root / "deleted").write_bytes(b"to be deleted")
    client.sync()
    client.run("offline")
    want = fill(root, FILES)
    want["old"] = b"at the origin"
    (root / "moved").rename(root / "d1" / "moved there")
    want["d1/moved there"] = b"to be moved"
    (root / "edited").write_bytes(b"after")
    want["edited"] = b"after"
    (root / "deleted").unlink()
    (root / "d1" / "link").symlink_to("f1")
    client.sigkill()
    lose_index(client)
    client.mount()
    status = client.status()
    assert status["index_lost"] is True
    assert status["restored_damaged"] == 0
    client.run("online")
    client.sync(120)
    names = server.records("notes")
    for path, body in want.items():
        assert server.read("notes", path) == body, path
    assert not any(n == "deleted" or "conflict" in n for n in names), names
    assert (client.mnt / "d1" / "link").readlink().name == "f1"
    for path, body in want.items():
        assert (root / path).read_bytes() == body, path
    assert client.status()["pending"] == 0
    events = json.loads(client.run("events", "--json").stdout)["events"]
    assert [e for e in events if e["kind"] == "rehydrate"]


def test_unsent_work_is_there_offline_after_the_index_is_lost(server, client):
    """Without the network the restored files can be opened by name at once."""
    root = client.mnt
    client.sync()
    client.run("offline")
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"mine")
    client.umount()
    lose_index(client)
    client.mount("--offline")
    assert (root / "dir" / "file").read_bytes() == b"mine"


def test_an_old_log_sends_nothing_twice(server, client):
    """A log of before the sending, with the index gone: what it tells was done is found done."""
    root = client.mnt
    client.sync()
    client.run("offline")
    (root / "a").write_bytes(b"one")
    (root / "b").write_bytes(b"two")
    client.sigkill()
    old = client.volume / "unsent.log"
    copy = client.home / "copy"
    shutil.copy(old, copy)
    client.mount("--offline")
    client.run("online")
    client.sync()
    client.umount()
    shutil.copy(copy, old)
    lose_index(client)
    client.mount()
    client.sync()
    assert sorted(server.records("notes")) == ["a", "b"]
    assert server.read("notes", "a") == b"one"
    assert client.status()["conflicts"] == 0
    wait_for(lambda: sorted(os.listdir(root)) == ["a", "b"])
    assert digest(root / "b")
