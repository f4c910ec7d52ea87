"""What the daemon may not do, and what its memory and a core of it do not have after a lock."""
import contextlib
import mmap
import os
import pathlib
import shutil
import subprocess
import threading

import pytest

from cli_fixtures import edit_config
from conftest import wait_for
from other_user import NOBODY, OtherUser, as_user, needs_root, user_mounts
from test_lock import keys_of, memory_of

CAP_DAC_READ_SEARCH, CAP_IPC_LOCK, CAP_SYS_ADMIN = 1 << 2, 1 << 14, 1 << 21
CONTENT, NAME = b"canary-58be71-in-a-file", b"canary-c20f98-of-a-name"


def threads(pid):
    """The status of every thread: {name: value}."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)


def capabilities(status):
    return {int(status[name], 16) for name in ("CapEff", "CapPrm")}, int(status["CapInh"], 16)


@needs_root
def test_no_thread_of_roots_daemon_has_more_than_it_needs_to_unmount(client):
    few = CAP_SYS_ADMIN | CAP_DAC_READ_SEARCH | CAP_IPC_LOCK
    for status in threads(client.pid()):
        (have,), inherited = capabilities(status)
        assert have & ~few == 0 and inherited == 0, hex(have)
        assert status["NoNewPrivs"].strip() == "1"
    client.umount()


@needs_root
def test_a_command_that_gives_the_key_keeps_its_rights(make_client):
    c = make_client()
    key = next((c.home / "config" / "cachet").glob("*.key"))
    seen = c.home / "seen"
    edit_config(c, key_source=f"command:grep CapEff /proc/self/status >{seen}; cat {key}")
    c.mount()
    (status, *_) = threads(c.pid())
    assert status["NoNewPrivs"].strip() == "0"
    assert int(seen.read_text().split()[1], 16) == int(next(threads(os.getpid()))["CapEff"], 16)


@user_mounts
def test_a_users_daemon_has_no_capability_and_unmounts_all_the_same(home, server):
    c = OtherUser(home, server, NOBODY)
    try:
        c.mount()
        for status in threads(c.pid()):
            assert capabilities(status) == ({0}, 0)
        c.umount()
    finally:
        c.close()


def test_it_leaves_no_core(client):
    limits = pathlib.Path(f"/proc/{client.pid()}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


@user_mounts
def test_another_process_of_the_same_user_cannot_read_its_memory(home, server):
    c = OtherUser(home, server, NOBODY)
    try:
        c.mount()
        r = subprocess.run(["cat", f"/proc/{c.pid()}/environ"], capture_output=True, check=False, **as_user(c.uid))
        assert r.returncode != 0 and b"Permission denied" in r.stderr
        c.umount()
    finally:
        c.close()


def found_canaries(client):
    return {c for block in memory_of(client.pid()) for c in (CONTENT, NAME) if c in block}


@contextlib.contextmanager
def reading(path):
    """Somebody reads the file again and again, past the page cache."""
    done = threading.Event()

    def read():
        with open(path, "rb", 0) as f:
            while not done.is_set():
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                f.seek(0)
                f.read()
    thread = threading.Thread(target=read)
    thread.start()
    yield
    done.set()
    thread.join()


@needs_root
def test_neither_content_nor_names_are_in_memory_after_a_lock(client):
    """Of what a core would have (and more, for what is left out of cores can be read here): nothing."""
    for i in range(30):
        (client.mnt / f"{NAME.decode()}-{i}").write_bytes(CONTENT * i)
        (client.mnt / f"large{i}").write_bytes(CONTENT * 5000)
        assert (client.mnt / f"large{i}").read_bytes()
    client.sync()
    assert len(os.listdir(client.mnt)) == 60
    with open(client.mnt / "large0", "r+b", 0) as f:
        with reading(client.mnt / "large1"):  # threads that sleep have nothing even now
            wait_for(lambda: found_canaries(client) == {CONTENT, NAME})
        f.write(CONTENT)
        client.run("lock")
        wait_for(lambda: found_canaries(client) == set())  # who just answered wipes its buffer before it sleeps
        client.run("unlock")
        f.write(CONTENT)
    assert (client.mnt / "large0").read_bytes() == CONTENT * 5000


def found_in_core(client, wanted):
    """What of it a core of the daemon has, registers and regions left out of ordinary cores included."""
    core = client.home / "core"
    r = subprocess.run(["gcore", "-a", "-o", str(core), str(client.pid())], capture_output=True, text=True, check=False)
    path = next(client.home.glob("core.*"), None)
    assert path, r.stdout + r.stderr
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        found = {name for name, what in wanted.items() if m.find(what) >= 0}
    path.unlink()
    return found


@needs_root
@pytest.mark.skipif(not shutil.which("gcore"), reason="needs the package gdb")
def test_a_core_after_a_lock_has_neither_keys_nor_token_nor_content_nor_names(client, server):
    for i in range(10):
        (client.mnt / f"{NAME.decode()}-{i}").write_bytes(CONTENT * 3000)
        assert (client.mnt / f"{NAME.decode()}-{i}").read_bytes()
    client.sync()
    token = client.home / "again"
    token.write_text(server.token)
    client.run("token", "--token-file", str(token))
    client.sync()
    wanted = {**keys_of(client), "token": server.token.encode(), "name": NAME, "content": CONTENT}
    # The search finds what is there; content only while a thread is at work with it, as the test above has it.
    assert found_in_core(client, wanted) >= set(wanted) - {"content"}
    client.run("lock")
    wait_for(lambda: not found_in_core(client, wanted), 60)
    client.run("unlock")
    assert (client.mnt / f"{NAME.decode()}-1").read_bytes() == CONTENT * 3000
