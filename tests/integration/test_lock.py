"""Lock and unlock without unmounting: nothing is readable, nothing is lost, the same open files go on."""
import base64
import errno
import hashlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time

import pytest

from cli_fixtures import edit_config
from conftest import wait_for

PAGE = mmap.PAGESIZE


def resident(path, length):
    """How many pages of the file the kernel holds, seen by a mapping of another process."""
    code = """
import ctypes, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY); n = int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
a = libc.mmap(None, n, 1, 1, fd, 0)
print('ready', flush=True)
for line in sys.stdin:
    v = (ctypes.c_ubyte * ((n + 4095) // 4096))()
    assert libc.mincore(ctypes.c_void_p(a), ctypes.c_size_t(n), v) == 0
    print(sum(x & 1 for x in v), flush=True)
"""
    p = subprocess.Popen([sys.executable, "-c", code, str(path), str(length)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"

    def ask():
        p.stdin.write("x\n")
        p.stdin.flush()
        return int(p.stdout.readline())
    return p, ask


def refused(call, code=errno.EACCES):
    with pytest.raises(OSError) as e:
        call()
    assert e.value.errno == code, e.value


def test_locked_files_are_refused_and_the_same_descriptors_go_on_after_unlock(client, server):
    path = client.mnt / "f"
    path.write_bytes(b"a" * 3 * PAGE)
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"late", 0)
    client.run("lock")
    assert client.status()["state"] == "locked"
    refused(lambda: os.pread(fd, 4, 0))
    refused(lambda: os.pwrite(fd, b"x" * PAGE, 0))
    refused(lambda: os.pwrite(fd, b"x", 5))
    refused(lambda: os.open(path, os.O_RDONLY))
    refused(lambda: os.stat(path))
    refused(lambda: os.listdir(client.mnt))
    refused(lambda: os.mkdir(client.mnt / "d"))
    assert "locked" in client.run("journal", check=False).stderr
    client.run("unlock")
    assert os.pread(fd, 8, 0) == b"lateaaaa"
    os.pwrite(fd, b"more", PAGE)
    os.close(fd)
    client.sync()
    assert server.read("notes", "f") == b"late" + b"a" * (PAGE - 4) + b"more" + b"a" * (2 * PAGE - 4)


def test_no_page_stays_in_the_kernel(client):
    n = 4 << 20
    path = client.mnt / "big"
    path.write_bytes(os.urandom(n))
    p, ask = resident(path, n)
    try:
        # Again and again: somebody else on the machine may drop its caches.
        wait_for(lambda: len(path.read_bytes()) == n and ask() == n // PAGE)
        client.run("lock")
        assert ask() == 0
        client.run("unlock")
        wait_for(lambda: len(path.read_bytes()) == n and ask() == n // PAGE)
    finally:
        p.kill()
        p.wait()


def test_dirty_pages_of_a_mapping_are_committed_and_a_touch_is_sigbus(client, server):
    path = client.mnt / "m"
    path.write_bytes(b"0" * 4 * PAGE)
    code = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR); m = mmap.mmap(fd, 0)
m[0:5] = b'dirty'
print('ready', flush=True); sys.stdin.readline()
print(m[1], flush=True)
"""
    p = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    assert json.loads(client.run("lock", "--json").stdout)["kept"] == 0
    p.stdin.write("\n")
    p.stdin.flush()
    assert p.wait(10) == -signal.SIGBUS
    client.run("unlock")
    assert path.read_bytes()[:6] == b"dirty0"
    client.sync()
    assert server.read("notes", "m")[:5] == b"dirty"


def test_pages_that_cannot_be_committed_are_told_and_there_after_unlock(small_disk):
    """The disk is full: the lock is done all the same, says so, and nothing of it is lost."""
    c, mib = small_disk, 1 << 20
    path, filler = c.mnt / "m", c.home / "state" / "filler"
    path.write_bytes(b"0" * 24 * mib)
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as m, open(filler, "wb", 0) as disk:
        with pytest.raises(OSError):
            while True:
                disk.write(bytes(1 << 16))
        for at in range(0, len(m), mib):
            m[at:at + 5] = b"dirty"
        said = json.loads(c.run("lock", "--json").stdout)
        assert said["kept"] == 0 and "space" in said["uncommitted"], said
        refused(lambda: path.open("rb"))
        disk.truncate(0)
        c.run("unlock")
    assert path.read_bytes() == (b"dirty" + b"0" * (mib - 5)) * 24


def test_a_killed_daemon_that_was_locked_lost_nothing(client):
    (client.mnt / "x").write_bytes(b"kept")
    client.run("lock")
    client.sigkill()
    client.run("umount", str(client.mnt), check=False)
    client.mount()
    assert (client.mnt / "x").read_bytes() == b"kept"


def test_a_locked_volume_is_unmounted_with_files_open_and_unlinked(client):
    gone = client.mnt / "gone"
    gone.write_bytes(b"x" * 70000)
    fd = os.open(gone, os.O_RDONLY)
    gone.unlink()
    (client.mnt / "x").write_bytes(b"kept")
    client.run("lock")
    os.close(fd)
    client.umount()
    client.mount()
    assert (client.mnt / "x").read_bytes() == b"kept" and not gone.exists()


def test_lock_is_not_held_up_by_readers_that_wait_for_the_network(client, server):
    server.write("notes", "far", b"z" * 200000)
    client.sync()
    server.process.send_signal(signal.SIGSTOP)
    try:
        reader = subprocess.Popen(["cat", str(client.mnt / "far")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        waiter = subprocess.Popen([str(client.binary), "sync", "--wait"], env=client.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        client.run("lock", timeout=10)
        assert reader.wait(10) != 0
        assert waiter.wait(10) != 0
    finally:
        server.process.send_signal(signal.SIGCONT)
    client.run("unlock")
    assert (client.mnt / "far").read_bytes() == b"z" * 200000


def test_a_volume_nobody_uses_locks_itself(make_client):
    c = make_client()
    edit_config(c, lock_idle_ms=1000)
    c.mount()
    (c.mnt / "x").write_bytes(b"x")
    wait_for(lambda: c.status()["state"] == "locked")
    c.run("unlock")
    assert (c.mnt / "x").read_bytes() == b"x"


def test_writers_during_many_locks_lose_nothing_that_was_taken(client, server):
    """A program that appends: each write is either taken, and there at the end, or refused."""
    path = client.mnt / "log"
    taken = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    for i in range(8):
        end = time.monotonic() + 0.15
        p = subprocess.Popen([str(client.binary), "lock"], env=client.env, stdout=subprocess.DEVNULL)
        while time.monotonic() < end or p.poll() is None:
            line = f"{i}:{len(taken):06d}\n".encode()
            try:
                assert os.pwrite(fd, line, sum(map(len, taken))) == len(line)
                taken.append(line)
            except PermissionError:
                time.sleep(0.01)
        assert p.returncode == 0
        client.run("unlock")
    os.close(fd)
    assert path.read_bytes() == b"".join(taken)
    client.sync()
    assert server.read("notes", "log") == b"".join(taken)


def memory_of(pid):
    """What the process can write to, region by region; locked secrets are kept apart by guard pages."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, perms = line.split()[:2]
            if perms[0] != "r" or perms[1] != "w":
                continue
            begin, end = (int(x, 16) for x in span.split("-"))
            for at in range(begin, end, 1 << 24):
                try:
                    mem.seek(at)
                    yield mem.read(min(1 << 24, end - at))
                except (OSError, ValueError):
                    break


def keys_of(client):
    """Every key of the volume by docs/format.md: KEK, index key, CEKs, and what is derived from the index key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    ring = json.loads((client.volume / "keyring.json").read_text())
    kek = bytes.fromhex(next((client.home / "config" / "cachet").glob("*.key")).read_text().strip())
    keys = {"KEK": kek}

    def field(x):
        return len(x).to_bytes(2, "little") + x.encode()
    for e in ring["entries"]:
        aad = b"cachet/wrap/v1" + b"".join(field(str(e[k])) for k in ("purpose", "store", "kid", "epoch", "createdAt"))
        iv, ct = (base64.b64decode(e["wrappedCEK"][k]) for k in ("iv", "ct"))
        keys[e["purpose"]] = AESGCM(kek).decrypt(iv, ct, aad)
    for label in (b"cachet/index/page/v1", b"cachet/index/wal/v1"):
        keys[label.decode()] = hashlib.blake2b(bytes([len(label)]) + label, digest_size=32, key=keys["index"]).digest()
    return keys


def found_in(client, keys):
    pid = client.pid()
    return {name for block in memory_of(pid) for name, key in keys.items() if key in block}


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of a process that is not dumpable: root only")
def test_no_key_is_in_memory_after_a_lock(client):
    for i in range(20):
        (client.mnt / f"f{i}").write_bytes(os.urandom(50000))
        (client.mnt / f"f{i}").read_bytes()
    client.sync()
    keys = keys_of(client)
    assert {"KEK", "cek", "cachet/index/page/v1"} <= found_in(client, keys), "the search finds nothing: it proves nothing"
    client.run("lock")
    assert found_in(client, keys) == set()
    client.run("unlock")
    assert len((client.mnt / "f3").read_bytes()) == 50000


def test_a_passphrase_is_asked_by_unlock_and_a_wrong_one_leaves_it_locked(home, server):
    from cli_fixtures import on_terminal
    from conftest import Client
    from test_passphrase import with_passphrase
    c = Client.__new__(Client)
    c.home, c.mnt = home / "c", home / "mnt"
    from conftest import BIN
    c.binary = BIN
    for d in (c.home, c.mnt, c.home / "run"):
        d.mkdir(mode=0o700)
    c.env = {"PATH": "/usr/bin:/bin", "HOME": str(c.home), "XDG_CONFIG_HOME": str(c.home / "config"),
             "XDG_STATE_HOME": str(c.home / "state"), "XDG_RUNTIME_DIR": str(c.home / "run"), "TERM": "dumb"}
    (c.home / "token").write_text(server.token)
    try:
        assert with_passphrase(c.env, b"correct horse\n", "init", "--store", "notes", "--key", "passphrase:fd=3",
                               "--token-file", str(c.home / "token"), server.url).returncode == 0
        edit_config(c, key_source="passphrase:")
        code, shown = on_terminal([str(BIN), "mount", str(c.mnt)], c.env, [("assphrase", "correct horse")])
        assert code == 0, shown
        (c.mnt / "x").write_bytes(b"x")
        c.run("lock")
        code, shown = on_terminal([str(BIN), "unlock"], c.env, [("assphrase", "wrong horse")])
        assert code == 6, shown
        refused(lambda: os.listdir(c.mnt))
        code, shown = on_terminal([str(BIN), "unlock"], c.env, [("assphrase", "correct horse")])
        assert code == 0, shown
        assert (c.mnt / "x").read_bytes() == b"x"
        assert not list((c.home / "run").rglob("*.key"))
    finally:
        c.close()
