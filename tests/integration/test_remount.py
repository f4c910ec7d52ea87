"""What a mount finds when it is made again: at once after a kill, with the times that were shown before."""
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from conftest import Client, is_mounted
from hostile import Hostile

KILLS = int(os.environ.get("CACHET_TEST_KILLS", "20"))


def git(*args, cwd):
    r = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *args], cwd=cwd,
                       capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, (args, r.stdout, r.stderr)
    return r.stdout


def times(path):
    st = os.lstat(path)
    return st.st_mtime_ns, st.st_ctime_ns, st.st_size, st.st_mode


def all_times(root):
    return {os.path.join(d, n): times(os.path.join(d, n)) for d, _, names in os.walk(root) for n in names}


# --- a killed daemon ---

def test_a_mount_right_after_sigkill_succeeds_every_time(client):
    (client.mnt / "f").write_text("0")
    for i in range(KILLS):
        pid = client.pid()
        (client.mnt / f"n{i}").write_bytes(os.urandom(300_000))
        os.kill(pid, signal.SIGKILL)
        client.run("mount", str(client.mnt))
        assert client.pid() != pid
        assert (client.mnt / f"n{i}").stat().st_size == 300_000
        (client.mnt / "f").write_text(str(i))
    assert (client.mnt / "f").read_text() == str(KILLS - 1)


def test_a_mount_right_after_sigkill_under_load_succeeds(client):
    """Threads of the daemon are in the kernel when it is killed: they take a while to leave."""
    stop = threading.Event()
    (client.mnt / "below").mkdir()  # so that nothing is made in the mount point while nothing is mounted there

    def load(k):
        while not stop.is_set():
            try:
                fd = os.open(client.mnt / "below" / f"load{k}", os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    os.write(fd, os.urandom(2_000_000))
                    os.fsync(fd)
                finally:
                    os.close(fd)
            except OSError:
                time.sleep(0.01)
    threads = [threading.Thread(target=load, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    try:
        for _ in range(5):
            time.sleep(0.3)
            pid = client.pid()
            os.kill(pid, signal.SIGKILL)
            client.run("mount", str(client.mnt))
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert client.status()["pid"] != pid


def test_a_volume_that_a_living_daemon_has_is_refused_at_once_with_one_sentence(client):
    other = client.home / "other"
    other.mkdir()
    began = time.monotonic()
    r = client.run("mount", str(other), check=False)
    took = time.monotonic() - began
    assert r.returncode == 8, r
    assert len(r.stderr.strip().splitlines()) == 1 and "another process has this volume open" in r.stderr
    assert took < 1.5  # not the two seconds that a dying one is waited for
    assert os.listdir(other) == []


def test_a_mount_point_that_is_in_use_is_refused_with_one_sentence(client):
    r = client.run("mount", str(client.mnt), check=False)
    assert r.returncode == 8, r
    assert len(r.stderr.strip().splitlines()) == 1 and "mounted" in r.stderr


# --- a store that was never listed ---

@pytest.fixture
def unlisted(home):
    """A server that is not in order yet, and a volume of it: made, but nothing is known of the origin."""
    server = Hostile({"a": b"content of a"})
    server.token = "t0ken"
    server.misbehave("caps stores changes", "problem503")
    client = Client(home, server)
    yield server, client
    client.close()
    server.close()


def test_the_first_mount_lists_what_was_never_listed(unlisted):
    server, client = unlisted
    server.behave()
    client.mount()
    assert os.listdir(client.mnt) == ["a"]
    assert (client.mnt / "a").read_bytes() == b"content of a"


def test_a_mount_of_what_was_never_listed_is_not_empty_offline_but_refused(unlisted):
    _, client = unlisted
    r = client.run("mount", "--offline", str(client.mnt), check=False)
    assert r.returncode != 0
    assert len(r.stderr.strip().splitlines()) == 1 and "nothing of the origin is known" in r.stderr, r.stderr
    assert not is_mounted(client.mnt)


# --- times ---

def test_times_after_a_remount_are_those_shown_before(client):
    top = client.mnt / "t"
    top.mkdir()
    for i in range(100):
        p = top / f"f{i}"
        p.write_bytes(b"x" * i)
        if i % 5 == 1:
            os.chmod(p, 0o600)
        if i % 5 == 2:
            os.utime(p, ns=(1_000_000_007, 2_000_000_003))
        if i % 5 == 3:
            os.rename(p, top / f"r{i}")
        if i % 5 == 4:
            with open(p, "ab") as f:
                f.write(b"more")
                f.flush()
                os.fchmod(f.fileno(), 0o640)
        if i % 7 == 0:
            time.sleep(0.003)
    os.link(top / "f0", top / "l0")
    os.setxattr(top / "f5", "user.a", b"1")
    os.truncate(top / "f10", 3)
    before = all_times(top)
    client.umount()
    client.mount()
    after = all_times(top)
    assert {p: (before[p], after[p]) for p in before if before[p] != after[p]} == {}


def test_times_after_a_kill_are_those_shown_before(client):
    top = client.mnt / "t"
    top.mkdir()
    for i in range(50):
        (top / f"f{i}").write_bytes(b"x" * 1000 * i)
    before = all_times(top)
    os.kill(client.pid(), signal.SIGKILL)
    client.run("mount", str(client.mnt))
    assert all_times(top) == before


def test_git_does_not_read_the_files_again_after_a_remount(client):
    """git trusts a file whose size, inode and both times are those of its index."""
    repo = client.mnt / "repo"
    repo.mkdir()
    git("init", "-q", "-b", "main", cwd=repo)
    for i in range(200):
        d = repo / f"d{i % 10}"
        d.mkdir(exist_ok=True)
        (d / f"f{i}").write_text(f"{i}\n" * (i + 1))
    git("add", ".", cwd=repo)
    git("commit", "-qm", "all", cwd=repo)
    git("clone", "-q", str(repo), str(client.mnt / "clone"), cwd=client.mnt)
    client.umount()
    client.mount()
    for where in (repo, client.mnt / "clone"):
        index = git("ls-files", "--debug", cwd=where)
        seen = 0
        for name, ctime, mtime, ino, size in re.findall(
                r"^(\S.*)\n  ctime: (\S+)\n  mtime: (\S+)\n  dev: .*ino: (\d+)\n  .*\n  size: (\d+)", index, re.M):
            st = os.lstat(where / name)
            assert (ctime, mtime, int(ino), int(size)) == (
                f"{st.st_ctime_ns // 10**9}:{st.st_ctime_ns % 10**9}",
                f"{st.st_mtime_ns // 10**9}:{st.st_mtime_ns % 10**9}", st.st_ino & 0xffffffff, st.st_size), name
            seen += 1
        assert seen == 200
        assert git("status", "--porcelain", cwd=where) == ""
