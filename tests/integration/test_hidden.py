"""`.cachet` in the mount: what there is to say about the volume, read as files and seen by no listing."""
import errno
import json
import os
import subprocess

import pytest

from conftest import wait_for

FILES = ["conflicts", "events", "journal", "status.json"]


def read(c, name):
    return (c.mnt / ".cachet" / name).read_text()


def lines(c, name):
    return [json.loads(line) for line in read(c, name).splitlines()]


def test_no_listing_shows_it_and_it_is_there(client):
    (client.mnt / "a").write_bytes(b"x")
    assert os.listdir(client.mnt) == ["a"]
    assert subprocess.run(["find", client.mnt, "-name", ".cachet*"], capture_output=True, check=True).stdout == b""
    assert sorted(os.listdir(client.mnt / ".cachet")) == FILES
    assert all(os.path.isfile(client.mnt / ".cachet" / n) for n in FILES)
    with pytest.raises(FileNotFoundError):
        read(client, "nothing")


def test_status_is_what_the_command_says(client):
    told, status = json.loads(read(client, "status.json")), client.status()
    assert told["store"] == status["store"] == "notes"
    assert told["pid"] == status["pid"]
    assert told["since_ns"] == status["since_ns"]


def test_the_journal_is_as_of_the_open(client):
    client.run("offline")
    (client.mnt / "a").write_bytes(b"x")
    with open(client.mnt / ".cachet" / "journal", encoding="utf-8") as f:
        (client.mnt / "b").write_bytes(b"x")
        assert [json.loads(line)["path"] for line in f] == ["a"]
    assert [o["path"] for o in lines(client, "journal")] == ["a", "b"]
    client.run("online")
    client.sync()
    assert read(client, "journal") == ""


def test_conflicts_and_events_are_lines(server, client):
    server.write("notes", "cv.txt", b"base")
    wait_for(lambda: (client.mnt / "cv.txt").exists())
    (client.mnt / "cv.txt").read_bytes()
    client.run("offline")
    (client.mnt / "cv.txt").write_bytes(b"mine")
    server.write("notes", "cv.txt", b"theirs")
    client.run("online")
    wait_for(lambda: read(client, "conflicts"))
    assert [c["origin_path"] for c in lines(client, "conflicts")] == ["cv.txt"]
    assert "conflict" in [e["kind"] for e in lines(client, "events")]


def test_nothing_can_be_changed_there(client):
    hidden = client.mnt / ".cachet"
    tries = [
        lambda: (hidden / "journal").write_bytes(b""),
        lambda: (hidden / "new").write_bytes(b""),
        lambda: os.mkdir(hidden / "new"),
        lambda: os.unlink(hidden / "journal"),
        lambda: os.rmdir(hidden),
        lambda: os.rename(hidden, client.mnt / "x"),
        lambda: os.rename(hidden / "journal", client.mnt / "x"),
        lambda: os.link(hidden / "journal", client.mnt / "x"),
        lambda: os.symlink("x", hidden / "x"),
        lambda: os.truncate(hidden / "journal", 1),
        lambda: os.setxattr(hidden / "journal", "user.x", b"1"),
        lambda: os.utime(hidden / "journal"),
    ]
    (client.mnt / "dir").mkdir()
    tries.append(lambda: os.rename(client.mnt / "dir", hidden))
    for i, one in enumerate(tries):
        with pytest.raises(OSError) as e:
            one()
        assert e.value.errno in (errno.EROFS, errno.EACCES, errno.EBUSY, errno.ENOTEMPTY), i
    assert os.listdir(client.mnt) == ["dir"]
    assert sorted(os.listdir(hidden)) == FILES
    assert os.listxattr(hidden / "journal") == []
    assert os.statvfs(hidden / "journal").f_bsize


def test_a_record_of_that_name_keeps_it(server, make_client):
    server.write("notes", ".cachet", b"a record")
    c = make_client().mount()
    assert (c.mnt / ".cachet").read_bytes() == b"a record"
    assert os.listdir(c.mnt) == [".cachet"]


def test_locked_it_is_refused(client):
    with open(client.mnt / ".cachet" / "journal", encoding="utf-8") as f:
        client.run("lock")
        for one in (lambda: read(client, "status.json"), f.read):
            with pytest.raises(PermissionError):
                one()
        client.run("unlock")
        assert f.read() == ""
