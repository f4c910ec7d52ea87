"""Memory-only mode: a machine that is not trusted keeps nothing, and the volume on its disk is not touched."""
import json
import os
import pathlib

import pytest

from cli_fixtures import Snapshot, edit_config, fails
from conftest import kill_and_wait, unmount

CANARY = b"canary-7f3a9e-in-memory-only"


@pytest.fixture
def away(client, server):
    """A volume with unsent work on the disk, unmounted; `args` mount it memory-only."""
    (client.mnt / "sent").write_bytes(b"sent")
    client.sync()
    client.run("offline")
    (client.mnt / "unsent").write_bytes(b"unsent, on the disk")
    client.umount()
    token = client.home / "tok"
    token.write_text(server.token)
    token.chmod(0o600)
    client.args = ("--memory-only", "--token-file", str(token))
    return client


def shm(client):
    vid = json.loads((client.home / "config" / "cachet" / "default.json").read_text())["id"]
    return pathlib.Path(f"/dev/shm/cachet-{os.geteuid()}-{vid}")


def open_files(pid):
    return [os.readlink(p) for p in pathlib.Path(f"/proc/{pid}/fd").iterdir()]


def test_it_works_and_nothing_is_written_to_the_disk(away, server, home):
    disk = Snapshot(away.volume, ignore=())
    away.mount(*away.args)
    assert json.loads(away.run("status", "--json").stdout)["memory_only"]
    assert (away.mnt / "sent").read_bytes() == b"sent"
    (away.mnt / "made").write_bytes(CANARY * 5000)
    away.sync()
    assert server.read("notes", "made") == CANARY * 5000
    held = [f for f in open_files(away.pid()) if f.startswith("/")]
    allowed = ("/dev/", str(away.home / "run"))
    assert all(f.startswith(allowed) for f in held), held
    for p in shm(away).rglob("*"):
        assert not p.is_file() or CANARY not in p.read_bytes(), p
    away.umount()
    assert not shm(away).exists()
    assert Snapshot(away.volume, ignore=()) == disk
    for p in away.home.rglob("*"):
        assert not p.is_file() or CANARY not in p.read_bytes(), p


def test_the_next_trusted_mount_resumes_the_volume_on_the_disk(away, server):
    away.mount(*away.args)
    assert not (away.mnt / "unsent").exists()
    away.umount()
    away.mount()
    assert (away.mnt / "unsent").read_bytes() == b"unsent, on the disk"
    away.sync()
    assert server.read("notes", "unsent") == b"unsent, on the disk"


def test_a_killed_daemon_leaves_nothing_that_opens_and_the_next_start_removes_it(away):
    away.mount(*away.args)
    (away.mnt / "made").write_bytes(CANARY * 5000)
    kill_and_wait(away.pid(), 9)
    unmount(away.mnt)
    left = shm(away)
    assert left.exists()
    for p in left.rglob("*"):
        assert not p.is_file() or CANARY not in p.read_bytes(), p
    away.mount(*away.args)
    away.umount()
    assert not left.exists()


def test_unsent_work_is_not_given_up_by_a_slip_of_the_finger(away):
    away.mount(*away.args)
    away.run("offline")
    (away.mnt / "made").write_bytes(b"x")
    assert "not at the origin" in fails(away, 9, "umount", str(away.mnt))
    assert (away.mnt / "made").read_bytes() == b"x"
    away.run("umount", "--discard", str(away.mnt))


def test_it_is_not_locked_because_nothing_could_unlock_it(away):
    away.mount(*away.args)
    assert "unmount" in fails(away, 1, "lock", str(away.mnt))
    assert (away.mnt / "sent").read_bytes() == b"sent"
    away.umount()


@pytest.mark.parametrize("command, trusted", [("true", True), ("exit 3", False), ("kill -9 $$", False), ("nowhere-to-be-found", False)])
def test_the_trust_check_decides(away, command, trusted):
    edit_config(away, trust_check=command)
    away.mount(*away.args[1:])
    assert json.loads(away.run("status", "--json").stdout)["memory_only"] is not trusted
    assert (away.mnt / "unsent").exists() is trusted
    away.umount()


def test_a_mounted_volume_is_not_mounted_a_second_time(away, home):
    away.mount()
    other = away.home / "other"
    other.mkdir()
    fails(away, 8, "mount", *away.args, str(other))
    away.umount()


def test_the_directory_of_somebody_else_is_not_touched(away):
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a directory of somebody else")
    shm(away).mkdir()
    (shm(away) / "theirs").touch()
    os.chown(shm(away), 12345, 12345)
    try:
        fails(away, 1, "mount", *away.args, str(away.mnt))
        assert (shm(away) / "theirs").exists()
    finally:
        (shm(away) / "theirs").unlink(missing_ok=True)
        if shm(away).exists():
            shm(away).rmdir()
