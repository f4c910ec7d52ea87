"""Promise P9 by `cachet verify`, the scrub and `cachet events`: damage is found, named, healed. Real server."""
import errno
import json
import os
import re

import pytest

from cli_fixtures import edit_config, flip, on_terminal
from conftest import wait_for

SIZE = 300_000


def new_blob(client, write):
    """What `write` adds to the volume: one large file has a blob of its own."""
    before = {p for p in client.volume.glob("blobs/*/*")}
    write()
    added = [p for p in client.volume.glob("blobs/*/*") if p not in before]
    assert len(added) == 1
    return added[0]


def verify(client, *args, code=0):
    r = client.run("verify", "--json", *args, check=False)
    assert r.returncode == code, r.stdout + r.stderr
    return json.loads(r.stdout)


def tampers(client):
    r = json.loads(client.run("events", "--json", "--verify").stdout)
    assert r["bad_id"] == 0
    return [json.loads(e["detail"]) for e in r["events"] if e["kind"] == "tamper"]


def test_clean_content_is_dropped_and_fetched_again(server, client):
    body, other = os.urandom(SIZE), os.urandom(SIZE)
    blob = new_blob(client, lambda: (client.mnt / "a").write_bytes(body))
    new_blob(client, lambda: (client.mnt / "b").write_bytes(other))
    client.sync()
    client.umount()
    assert verify(client)["healed"] == 0
    flip(blob, 70_000)
    client.mount()
    got = verify(client)
    assert (got["healed"], got["damaged"]) == (1, 0)
    assert verify(client)["healed"] == 0
    assert [t["unsent"] for t in tampers(client)] == [False]
    assert (client.mnt / "a").read_bytes() == body
    assert (client.mnt / "b").read_bytes() == other
    assert client.status()["damaged_files"] == []


def test_unsent_content_is_kept_named_and_not_sent(server, client):
    client.sync()
    client.run("offline")
    (client.mnt / "dir").mkdir()
    body = os.urandom(SIZE)
    blob = new_blob(client, lambda: (client.mnt / "dir" / "mine").write_bytes(body))
    (client.mnt / "fine").write_bytes(b"fine")
    client.umount()
    flip(blob, 130_000)
    client.mount("--offline")
    got = verify(client, code=7)
    assert (got["healed"], got["damaged"]) == (0, 1)
    assert [f["path"] for f in client.status()["damaged_files"]] == ["dir/mine"]
    assert "dir/mine" in client.run("status").stdout
    with open(client.mnt / "dir" / "mine", "rb") as f:
        assert f.read(65536) == body[:65536]
        f.seek(65536)
        with pytest.raises(OSError) as e:
            f.read(65536)
        assert e.value.errno == errno.EIO
    client.run("online")
    wait_for(lambda: "fine" in server.records("notes"))
    assert "dir/mine" not in server.records("notes")
    assert blob.exists()
    (client.mnt / "dir" / "mine").write_bytes(body)
    client.sync()
    assert server.read("notes", "dir/mine") == body
    assert client.status()["damaged_files"] == []


def test_one_file_by_its_path(server, client):
    body = os.urandom(SIZE)
    blob = new_blob(client, lambda: (client.mnt / "a").write_bytes(body))
    (client.mnt / "b").write_bytes(os.urandom(SIZE))
    client.sync()
    client.umount()
    flip(blob, 10)
    client.mount()
    assert verify(client, str(client.mnt / "b"))["healed"] == 0
    got = verify(client, str(client.mnt / "a"))
    assert (got["files"], got["healed"]) == (1, 1)


def test_progress_is_shown_on_a_terminal_and_nowhere_else(server, client):
    """Also within one file, which is larger than what is looked at in one go."""
    client.run("offline")
    (client.mnt / "large").write_bytes(os.urandom(48 << 20))
    argv = [str(client.binary), "verify"]
    code, screen = on_terminal(argv, client.env, [])
    bars = [bar.strip() for bar in re.findall(r"\[([# ]{30})\] [0-9.]+ [KMG]?i?B", screen)]
    assert code == 0 and len(bars) >= 2, screen
    assert bars == sorted(bars) and 0 < len(bars[0]) < 30 and len(bars[-1]) == 30
    assert "1 file, " in screen.split(bars[-1])[1]
    assert "[" not in client.run("verify").stderr
    assert "[" not in on_terminal([*argv, "--json"], client.env, [])[1]


def test_the_scrub_finds_what_nobody_reads(server, client):
    blob = new_blob(client, lambda: (client.mnt / "a").write_bytes(os.urandom(SIZE)))
    client.sync()
    client.umount()
    flip(blob, 200_000)
    edit_config(client, scrub_rate=1_000_000)
    client.mount()
    wait_for(lambda: tampers(client))
    assert client.status()["damaged_chunks"] == 1


def test_a_damaged_index_is_named(server, client):
    """Damage deep in the index is found by verify, and gone with the next mount, unsent work included."""
    for i in range(300):
        (client.mnt / f"file with a long name so that pages fill {i}").write_bytes(b"x" * 10)
    client.sync()
    client.run("offline")
    (client.mnt / "mine").write_bytes(b"unsent")
    client.umount()
    index = client.volume / "index.db"
    for page in range(8, index.stat().st_size // 4096):
        flip(index, page * 4096 + 100)
    r = client.run("verify", check=False)
    if r.returncode:
        assert r.returncode == 7 and "index" in r.stderr
        index.unlink()
    client.mount()
    client.sync()
    assert server.read("notes", "mine") == b"unsent"
    assert len(os.listdir(client.mnt)) == 301
