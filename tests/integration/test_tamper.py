"""Promise P9, the table of docs/threat-model.md: each file of the volume flipped, zeroed, cut, its blocks exchanged, or an old
one put back, while nothing runs; then a mount beside the real server. Whatever is read is what was written last; clean content
heals by itself; unsent content that cannot be had is EIO, named in the status, and stays out of the origin.

One volume is made and killed with work unsent; each case has a copy of it. The -wal is empty then: commits are in the redo log.
So a second volume gets a page of the feed that is too long for a record there. (test_vfs_wal.c and test_vfs_crash.c damage the
-wal byte by byte.)"""
import errno
import os
import pathlib
import shutil
import tempfile

import pytest

from conftest import Client, Server, is_mounted, kill_and_wait, unmount, wait_for

PARTS = ("clean blob", "unsent blob", "pack", "index.db", "index.redo", "unsent.log", "keyring.json")
DAMAGES = ("flip", "zero", "cut", "swap", "old")
# What does not end with all files as they were: unsent work lost from sight, or no mount. The rest of the table is "as before".
NAMED = {("unsent blob", d): {"mine-big"} for d in DAMAGES}
NAMED.update({("pack", d): {"mine-small"} for d in DAMAGES})
REFUSED = {("keyring.json", d) for d in ("flip", "zero", "cut", "swap")}
BLOCK = 4096
LINKS = 600


class Prepared:
    def begin(self):
        """Mounted and offline, with two files that the origin has."""
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="cachet-test-"))
        self.server = Server(self.home)
        self.server.admin("store", "add", "notes", str(self.server.dir))
        self.server.start()
        self.client = Client(self.home, self.server).mount()
        self.want, self.blobs = {}, {}
        self.write("clean-small", 900)
        self.write("clean-big", 300_000)
        self.client.sync()
        self.client.run("offline")

    def __init__(self):
        self.begin()
        self.write("mine-small", 40_000)  # in the pack and, so long, not in the redo log
        self.write("mine-tiny", 700)  # in both: whole again from the log
        self.write("mine-big", 250_000)
        os.sync()
        self.client.umount()
        self.old = self.copy("old")
        self.client.mount("--offline")
        for name in ("mine-small", "mine-tiny", "mine-big"):
            with open(self.client.mnt / name, "r+b") as f:
                self.want[name] = os.urandom(len(self.want[name]))
                f.write(self.want[name])
                f.flush()
                os.fsync(f.fileno())
        self.killed()

    def killed(self):
        kill_and_wait(self.client.pid(), 9)
        unmount(self.client.mnt)
        self.now = self.copy("now")
        self.volume = self.client.volume
        self.server.stop()
        shutil.copytree(self.server.dir, self.home / "server.now")

    def again(self):
        """Volume and server as they were: nothing of what an earlier case sent."""
        self.server.stop()
        for place, kept in ((self.volume, self.now), (self.server.dir, self.home / "server.now")):
            shutil.rmtree(place)
            shutil.copytree(kept, place)
        self.server.start()

    def copy(self, name):
        return pathlib.Path(shutil.copytree(self.client.volume, self.home / name))

    def write(self, name, size):
        """Notes which blob it made, if any."""
        before = set(self.client.volume.glob("blobs/*/*"))
        self.want[name] = os.urandom(size)
        with open(self.client.mnt / name, "wb") as f:
            f.write(self.want[name])
            f.flush()
            os.fsync(f.fileno())
        made = set(self.client.volume.glob("blobs/*/*")) - before
        if made:
            self.blobs[name] = made.pop().relative_to(self.client.volume)

    def part(self, name):
        return {"clean blob": self.blobs["clean-big"], "unsent blob": self.blobs["mine-big"],
                "pack": self.blobs["clean-small"]}.get(name, pathlib.Path(name))

    def close(self):
        self.client.close()
        self.server.stop()
        shutil.rmtree(self.home, ignore_errors=True)


class PreparedWal(Prepared):
    """Killed with commits in the -wal: symlinks of another device, whose targets are longer than a record may be."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.begin()
        other = Client(self.home, self.server, "other").mount()
        for i in range(LINKS):
            (other.mnt / f"link{i}").symlink_to(f"{i}/" * 600)
        other.sync()
        other.close()
        self.client.run("online")
        wait_for(lambda: len(os.listdir(self.client.mnt)) >= LINKS + 2)
        self.client.run("offline")
        self.write("mine-small", 700)
        self.write("mine-big", 250_000)
        self.killed()
        assert (self.now / "index.db-wal").stat().st_size > LINKS * 1000, "nothing was in the -wal: nothing is tested"


@pytest.fixture(scope="module")
def prepared():
    p = Prepared()
    yield p
    p.close()


@pytest.fixture(scope="module")
def prepared_wal():
    p = PreparedWal()
    yield p
    p.close()


def used(data):
    """The first block that is not zeros."""
    return next(at for at in range(0, max(len(data), 1), BLOCK) if any(data[at:at + BLOCK]))


def damaged(now, old, how):
    data = bytearray(now)
    at = used(data)
    if how == "flip":
        for i in range(at, len(data), BLOCK):
            data[i + min(300, (len(data) - i) // 2)] ^= 0x10  # not in the padding of a small file
    elif how == "zero":
        data[at:] = bytes(len(data) - at)
    elif how == "cut":
        del data[at + (len(data) - at) // 2 if len(data) < BLOCK else at:]
    elif how == "swap":
        size = BLOCK if len(data) >= 2 * BLOCK else max(len(data) // 4, 1)
        blocks = [data[i:i + size] for i in range(0, len(data), size)]
        data = b"".join(reversed(blocks))
    else:
        data = bytearray(old)
    return bytes(data)


def read(p, name):
    """What is read, or an error number."""
    try:
        return (p.client.mnt / name).read_bytes()
    except OSError as e:
        return e.errno


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("part", PARTS)
def test_a_tampered_file_of_the_volume(prepared, part, how):
    p, path = prepared, prepared.part(part)
    if part == "keyring.json" and how == "old":
        pytest.skip("the keyring did not change; test_keys.py puts back old ones")
    p.again()
    target = p.volume / path
    target.write_bytes(damaged((p.now / path).read_bytes(), (p.old / path).read_bytes() if (p.old / path).exists() else b"", how))
    r = p.client.run("mount", "--offline", str(p.client.mnt), check=False)
    try:
        assert (r.returncode != 0) == ((part, how) in REFUSED), r.stderr
        if r.returncode:
            return
        got = {name: read(p, name) for name in ("mine-small", "mine-tiny", "mine-big")}
        lost = {name for name, is_ in got.items() if is_ != p.want[name]}
        assert lost == NAMED.get((part, how), set())
        assert all(got[name] == errno.EIO for name in lost)
        p.client.run("online")
        for name in ("clean-small", "clean-big"):
            wait_for(lambda name=name: read(p, name) == p.want[name])
        wait_for(lambda: lost <= {f["path"] for f in p.client.status()["damaged_files"]})
    finally:
        p.client.run("umount", str(p.client.mnt), check=False)
        wait_for(lambda: unmount(p.client.mnt) or not is_mounted(p.client.mnt))


@pytest.mark.parametrize("how", DAMAGES)
def test_a_tampered_wal(prepared_wal, how):
    """What the -wal alone had is in unsent.log, or the origin's."""
    p = prepared_wal
    p.again()
    target = p.volume / "index.db-wal"
    target.write_bytes(damaged((p.now / "index.db-wal").read_bytes(), b"", how))
    p.client.run("mount", "--offline", str(p.client.mnt))
    try:
        for name in ("mine-small", "mine-big"):
            assert read(p, name) == p.want[name]
        p.client.run("online")
        for name in ("clean-small", "clean-big"):
            wait_for(lambda name=name: read(p, name) == p.want[name])
        wait_for(lambda: len(os.listdir(p.client.mnt)) == LINKS + 4)
        assert os.readlink(p.client.mnt / "link7") == "7/" * 600
        p.client.sync()
        assert all(p.server.read("notes", name) == p.want[name] for name in p.want)
    finally:
        p.client.run("umount", str(p.client.mnt), check=False)
        wait_for(lambda: unmount(p.client.mnt) or not is_mounted(p.client.mnt))
