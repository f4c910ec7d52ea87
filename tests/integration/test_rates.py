"""Bandwidth limits: kept over all transfers together, and small changes do not wait for large ones.

No timing is asserted from above: what is, is that the bytes of so much time cannot have gone in less.
"""
import os
import time

import pytest

from cli_fixtures import edit_config
from conftest import digest, wait_for

RATE = 1_000_000
SIZE = 2_000_000
BURST = RATE // 8


@pytest.fixture
def slow(make_client):
    client = make_client()
    edit_config(client, upload_rate=RATE, download_rate=RATE)
    return client.mount()


def least_seconds(size):
    return (size - BURST) / RATE


def whole(server):
    """A file may be there before its content is."""
    return {name for name, r in server.records("notes").items() if r["size"]}


def test_uploads_together_take_no_more_than_the_rate(slow, server):
    start = time.monotonic()
    for i in range(4):
        (slow.mnt / f"f{i}").write_bytes(os.urandom(SIZE // 4))
    slow.sync()
    assert time.monotonic() - start >= least_seconds(SIZE)
    assert all(len(server.read("notes", f"f{i}")) == SIZE // 4 for i in range(4))
    status = slow.status()
    assert (status["upload_rate"], status["download_rate"]) == (RATE, RATE)


def test_a_batch_of_small_files_is_under_the_rate_too(slow, server):
    start = time.monotonic()
    for i in range(100):
        (slow.mnt / f"f{i}").write_bytes(os.urandom(12_000))
    slow.sync()
    assert time.monotonic() - start >= least_seconds(1_200_000)
    assert len(server.records("notes")) == 100


def test_a_small_change_is_through_while_a_large_upload_goes_on(slow, server):
    (slow.mnt / "large").write_bytes(os.urandom(80_000_000))  # eighty seconds
    wait_for(lambda: slow.status()["sent_bytes"] > 200_000)
    (slow.mnt / "small").write_bytes(b"now")
    wait_for(lambda: "small" in whole(server))
    assert "large" not in whole(server)
    slow.run("online", "--upload-rate", "0")
    wait_for(lambda: "large" in whole(server))
    assert slow.status()["upload_rate"] == 0 and slow.status()["download_rate"] == RATE


def test_a_small_change_does_not_wait_behind_more_uploads_than_go_at_once(slow, server):
    for i in range(8):
        (slow.mnt / f"large{i}").write_bytes(os.urandom(6_000_000))
    wait_for(lambda: slow.status()["sent_bytes"] > 400_000)
    (slow.mnt / "small").write_bytes(b"now")
    (slow.mnt / "larger").write_bytes(b"n" * 300_000)  # an upload too, but one that is soon through
    wait_for(lambda: {"small", "larger"} <= whole(server))
    assert whole(server) == {"small", "larger"}
    slow.run("online", "--upload-rate", "0")
    slow.sync()


def test_what_comes_after_hundreds_of_waiting_uploads_is_seen(slow, server):
    slow.run("offline")
    for i in range(600):
        with open(slow.mnt / f"large{i}", "wb") as f:
            f.truncate(5_000_000 if i % 2 else 300_000)
    slow.run("online", "--upload-rate", "32768")
    wait_for(lambda: slow.status()["sent_bytes"] > 10_000)
    (slow.mnt / "small").write_bytes(b"now")
    wait_for(lambda: "small" in whole(server), 60)
    assert len(server.records("notes")) < 100


def test_downloads_are_bounded_and_the_bound_can_be_changed(slow, server):
    body = os.urandom(SIZE)
    server.write("notes", "f", body)
    wait_for((slow.mnt / "f").exists)
    start = time.monotonic()
    assert (slow.mnt / "f").read_bytes() == body
    assert time.monotonic() - start >= least_seconds(SIZE)
    slow.run("free", str(slow.mnt / "f"))
    slow.run("online", "--download-rate", "0")
    assert (slow.mnt / "f").read_bytes() == body


@pytest.mark.parametrize("member", ["upload_rate", "download_rate"])
def test_a_rate_that_no_transfer_would_survive_is_refused(make_client, member):
    client = make_client()
    client.mount()
    r = client.run("online", "--" + member.replace("_", "-"), "100", check=False)
    assert r.returncode == 2 and "32768" in r.stderr
    client.umount()
    edit_config(client, **{member: 100})
    r = client.run("mount", str(client.mnt), check=False)
    assert r.returncode == 2 and member in r.stderr
