"""What the origin would refuse is told at write(), as early as it is known: files too large, an origin without room."""
import errno
import os
import subprocess

import pytest

from conftest import wait_for

MAX = 1_000_000


@pytest.fixture
def bounded(server, make_client):
    server.stop()
    server.options = ["--max-record-bytes", str(MAX)]
    server.start()
    return make_client().mount()


def refused(code, fn):
    with pytest.raises(OSError) as e:
        fn()
    assert e.value.errno == code


def write_at(path, off, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        return os.pwrite(fd, data, off)
    finally:
        os.close(fd)


def test_beyond_what_the_origin_takes_write_and_truncate_say_efbig(bounded, server):
    f = bounded.mnt / "f"
    wait_for(lambda: bounded.status()["state"] == "online")
    assert write_at(f, 0, b"x" * MAX) == MAX
    refused(errno.EFBIG, lambda: write_at(f, MAX, b"y"))
    refused(errno.EFBIG, lambda: os.truncate(f, MAX + 1))
    fd = os.open(f, os.O_RDWR)
    refused(errno.EFBIG, lambda: os.posix_fallocate(fd, 0, MAX + 1))
    os.close(fd)
    bounded.sync()
    assert server.read("notes", "f") == b"x" * MAX
    bounded.umount()
    bounded.mount("--offline")  # not asked in this run
    refused(errno.EFBIG, lambda: write_at(f, MAX, b"y"))
    assert f.read_bytes() == b"x" * MAX


@pytest.fixture
def small_disk(home):
    """Below the server's data, which is made later."""
    disk = home / "server"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
    yield
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small tmpfs")
def test_without_room_at_the_origin_writes_are_refused_and_nothing_is_lost(small_disk, server, make_client):
    client = make_client().mount()
    kept = {"old": os.urandom(4_000_000), "large": os.urandom(9_000_000)}
    (client.mnt / "old").write_bytes(kept["old"])
    client.sync()
    (client.mnt / "large").write_bytes(kept["large"])
    wait_for(lambda: client.status()["origin_full"])
    assert client.status()["state"] in ("online", "degraded")
    assert "no room" in client.run("status").stdout
    refused(errno.EDQUOT, lambda: (client.mnt / "more").write_bytes(b"x"))
    assert (client.mnt / "large").read_bytes() == kept["large"]
    assert client.run("sync", "--wait", "--timeout", "2", check=False).returncode in (9, 10)
    os.rename(client.mnt / "old", client.mnt / "older")  # needs no room
    os.unlink(client.mnt / "older")  # makes some
    wait_for(lambda: not client.status()["origin_full"])
    (client.mnt / "more").write_bytes(b"x")
    client.sync()
    assert server.read("notes", "large") == kept["large"] and server.read("notes", "more") == b"x"
    assert "older" not in server.records("notes")
