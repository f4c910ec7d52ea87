"""The disk is full long before the volume's bound: a program hears of it soon, from write(2), fsync or close; what was synced stays as
it was, the daemon does not gather in memory what it cannot seal, and room that is made can be used."""
import contextlib
import errno
import os
import pathlib
import re

import pytest

MIB = 1 << 20
BLOCK = os.urandom(MIB)


def fill(path, room):
    """Takes what is left of the disk but for `room` bytes."""
    with open(path, "wb", 0) as disk:
        with contextlib.suppress(OSError):
            while True:
                disk.write(bytes(1 << 16))
        disk.truncate(max(0, disk.tell() - room))


def peak_kib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def write_until_refused(path, most, size=MIB):
    """(bytes that write(2) took, what it said, what close said)"""
    fd, taken, said, at_close = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), 0, None, None
    try:
        while taken < most and not said:
            try:
                taken += os.write(fd, BLOCK[:size])
            except OSError as e:
                said = e.errno
    finally:
        try:
            os.close(fd)
        except OSError as e:
            at_close = e.errno
    return taken, said, at_close


@pytest.mark.parametrize("size", [MIB, 64 * 1024, 4096])
def test_a_full_disk_is_told_soon_and_costs_nothing(small_disk, size):
    c = small_disk
    kept, filler = c.mnt / "kept", c.home / "state" / "filler"
    with open(kept, "wb") as f:
        for _ in range(8):
            f.write(BLOCK)
        f.flush()
        os.fsync(f.fileno())
    c.sync()
    c.run("offline")
    before = peak_kib(c.pid())
    fill(filler, 8 * MIB)
    taken, said, at_close = write_until_refused(c.mnt / "new", 64 * MIB, size)
    assert said == errno.ENOSPC or (said is None and at_close == errno.ENOSPC), (taken, said, at_close)
    assert taken < 16 * MIB, "what no disk has room for is taken on and on"
    assert peak_kib(c.pid()) - before < 32 * 1024
    assert kept.read_bytes() == BLOCK * 8
    os.truncate(filler, 0)
    again, said, at_close = write_until_refused(c.mnt / "again", 8 * MIB, size)
    assert (again, said, at_close) == (8 * MIB, None, None)
    c.umount()
    c.mount("--offline")
    assert kept.read_bytes() == BLOCK * 8
    assert (c.mnt / "again").read_bytes() == BLOCK[:size] * (8 * MIB // size)
    new = (c.mnt / "new").read_bytes()
    assert len(new) <= taken and new == (BLOCK[:size] * (64 * MIB // size))[:len(new)]
    c.run("verify")
