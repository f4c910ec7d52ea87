"""The mount and the network: what waits, what must not, how waiting ends, what the kernel is told.

A stopped (SIGSTOP) server keeps its connections and answers nothing: the worst kind of network.
"""
import errno
import json
import mmap
import os
import signal
import stat
import subprocess
import time

import pytest

from conftest import kill_and_wait, is_mounted, wait_for

SOON_S = 5  # far below the deadline of 30 s, far above what an answer from the index takes


@pytest.fixture
def hung(server, make_client):
    """A mount whose records are listed but not here, and a server that has stopped answering."""
    for i in range(60):
        server.write("notes", f"f{i}", b"content %d\n" % i * 1000)
    client = make_client()
    client.mount()
    wait_for(lambda: len(os.listdir(client.mnt)) == 60)
    server.process.send_signal(signal.SIGSTOP)
    yield client
    server.process.send_signal(signal.SIGCONT)


def quick(fn):
    start = time.monotonic()
    value = fn()
    assert time.monotonic() - start < SOON_S
    return value


def cat(path):
    """Ends by SIGINT even where the tests were started in the background of a shell, which ignores it."""
    return subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_a_program_that_waits_for_content_can_be_interrupted(hung, sig):
    p = cat(hung.mnt / "f1")
    time.sleep(1)
    assert p.poll() is None
    p.send_signal(sig)
    quick(p.wait)
    assert p.returncode == -sig


def test_metadata_and_writes_do_not_wait_behind_sixty_waiting_readers(hung):
    readers = [cat(hung.mnt / f"f{i}") for i in range(60)]
    time.sleep(1)
    try:
        quick(lambda: [os.stat(hung.mnt / f"f{i}") for i in range(60)])
        quick(lambda: os.listdir(hung.mnt))
        quick(lambda: os.statvfs(hung.mnt))
        quick(lambda: (hung.mnt / "mine").write_bytes(b"x" * 100000))
        quick(lambda: os.rename(hung.mnt / "mine", hung.mnt / "ours"))
        assert quick(lambda: (hung.mnt / "ours").read_bytes()) == b"x" * 100000
    finally:
        for p in readers:
            p.kill()
            quick(p.wait)


def test_readers_that_waited_get_the_content_when_the_server_is_back(hung, server):
    readers = [cat(hung.mnt / f"f{i}") for i in range(10)]
    time.sleep(1)
    server.process.send_signal(signal.SIGCONT)
    for i, p in enumerate(readers):
        assert p.communicate(timeout=20)[0] == b"content %d\n" % i * 1000


def test_sigterm_ends_the_daemon_although_readers_wait(hung):
    pid = hung.pid()
    readers = [cat(hung.mnt / f"f{i}") for i in range(20)]
    time.sleep(1)
    start = time.monotonic()
    kill_and_wait(pid, signal.SIGTERM, timeout=SOON_S)
    assert time.monotonic() - start < SOON_S
    assert not is_mounted(hung.mnt)
    for p in readers:
        p.wait(SOON_S)
        assert p.returncode != 0


def test_opening_for_write_completes_the_file_first_and_truncating_does_not(server, make_client):
    server.write("notes", "f", b"0123456789" * 1000)
    client = make_client().mount()
    wait_for(lambda: (client.mnt / "f").exists())
    client.run("offline")
    with pytest.raises(OSError) as e:
        os.open(client.mnt / "f", os.O_WRONLY)
    assert e.value.errno == errno.EHOSTUNREACH
    with pytest.raises(OSError) as e:
        os.truncate(client.mnt / "f", 5)
    assert e.value.errno == errno.EHOSTUNREACH
    assert (client.mnt / "f").stat().st_size == 10000
    client.run("online")
    wait_for(lambda: client.status()["state"] == "online")
    os.truncate(client.mnt / "f", 12)
    assert (client.mnt / "f").read_bytes() == b"012345678901"
    client.run("offline")
    (client.mnt / "f").write_bytes(b"new")
    assert (client.mnt / "f").read_bytes() == b"new"


def test_a_remembered_absence_ends_when_the_origin_makes_the_file(server, client):
    assert not (client.mnt / "later").exists()
    assert os.listdir(client.mnt) == []
    server.write("notes", "later", b"here")
    wait_for(lambda: (client.mnt / "later").exists())
    assert os.listdir(client.mnt) == ["later"]
    assert (client.mnt / "later").read_bytes() == b"here"
    server.delete("notes", "later")
    wait_for(lambda: not (client.mnt / "later").exists())
    assert os.listdir(client.mnt) == []


def test_a_new_version_has_the_same_number_and_the_old_mapping_its_content(server, client):
    server.write("notes", "f", b"a" * 10000)
    path = client.mnt / "f"
    wait_for(path.exists)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 10000, prot=mmap.PROT_READ) as m:
        assert m[:] == b"a" * 10000
        before = os.fstat(f.fileno())
        server.write("notes", "f", b"b" * 20000)
        wait_for(lambda: path.stat().st_size == 20000)
        assert m[:] == b"a" * 10000
        assert os.fstat(f.fileno()).st_size == 10000
        assert path.stat().st_ino == before.st_ino
        assert path.read_bytes() == b"b" * 20000


@pytest.mark.parametrize("how", ["written", "mapped"])
def test_a_change_elsewhere_under_a_writer_is_a_conflict_and_keeps_both(server, client, how):
    """Written and not yet closed, or in a mapping whose descriptor is closed and whose pages are dirty."""
    theirs, ours = b"theirs" * 3000, b"o" * 6000 + b"base" * 1000
    server.write("notes", "f", b"base" * 2500)
    path = client.mnt / "f"
    wait_for(path.exists)
    fd = os.open(path, os.O_RDWR)
    if how == "mapped":
        target = mmap.mmap(fd, 10000)
        os.close(fd)
        target[:6000] = ours[:6000]
    else:
        target = open(fd, "r+b", buffering=0)
        target.write(ours[:6000])
    server.write("notes", "f", theirs)
    wait_for(lambda: server.read("notes", "f") == theirs)
    assert path.read_bytes() in (ours, theirs)  # one or the other, whole
    if how == "mapped":
        assert target[:] == ours
        target.flush()
    target.close()

    def both():
        client.sync()
        return sorted(p.read_bytes() for p in client.mnt.iterdir()) == sorted([ours, theirs])
    wait_for(both)
    assert path.read_bytes() == theirs
    assert client.status()["conflicts"] == 1


def test_fifos_sockets_and_devices_are_never_sent(server, client):
    os.mkdir(client.mnt / "d")
    os.mkfifo(client.mnt / "d" / "fifo")
    os.mknod(client.mnt / "d" / "sock", stat.S_IFSOCK | 0o600)
    os.rename(client.mnt / "d" / "fifo", client.mnt / "moved")
    os.link(client.mnt / "moved", client.mnt / "d" / "again")
    (client.mnt / "d" / "file").write_bytes(b"sent")
    client.sync()
    assert sorted(server.records("notes")) == ["d", "d/file"]
    assert stat.S_ISFIFO(os.stat(client.mnt / "d" / "again").st_mode)
    # A directory goes with what the origin never saw in it.
    for name in ("again", "sock", "file"):
        os.unlink(client.mnt / "d" / name)
    os.rmdir(client.mnt / "d")
    client.sync()
    assert not server.records("notes")


def test_times_and_mode_changed_elsewhere_are_seen(server, client):
    server.write("notes", "f", b"same")
    path = client.mnt / "f"
    wait_for(path.exists)
    assert path.read_bytes() == b"same"
    before = path.stat()
    record = server.records("notes")["f"]
    status, _, body = server.request(
        "PATCH", f"/v1/stores/notes/records/{record['id']}",
        json.dumps({"mode": 0o600, "mtime_ns": "1234567890000000001"}),
        {"Idempotency-Key": os.urandom(16).hex(), "Cachet-Device": "f" * 32, "Cachet-Seq": str(time.time_ns()),
         "If-Match": record["etag"]})
    assert status == 200, body
    wait_for(lambda: path.stat().st_mtime_ns == 1234567890000000001)
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_ino) == (0o600, before.st_ino)
    assert path.read_bytes() == b"same"


def test_a_directory_full_of_changes_is_seen_while_it_is_read(server, client):
    """Invalidations of a directory that programs keep busy: neither side may hang."""
    for i in range(30):
        server.write("notes", f"f{i}", b"1")
    wait_for(lambda: len(os.listdir(client.mnt)) == 30)
    busy = subprocess.Popen(
        ["sh", "-c", f"while :; do ls -l {client.mnt} >/dev/null; cat {client.mnt}/* >/dev/null 2>&1; done"],
        start_new_session=True)
    try:
        for i in range(30):
            server.write("notes", f"f{i}", b"22")
        for i in range(30, 60):
            server.write("notes", f"f{i}", b"22")
        wait_for(lambda: len(os.listdir(client.mnt)) == 60)
        wait_for(lambda: all((client.mnt / f"f{i}").read_bytes() == b"22" for i in range(60)))
    finally:
        os.killpg(busy.pid, signal.SIGKILL)
        busy.wait()
    client.umount()
