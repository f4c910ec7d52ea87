"""Promise P11: the blocks of all files of the volume never exceed the bound, whatever goes on.

Eight writers, readers of more than fits, checkpoints, eviction and kills go on while every file of the volume is measured about
every 10 ms, with the daemon stopped for it. CACHET_BOUND_S (default 6) is how long, CACHET_SEED the seed."""
import errno
import math
import os
import random
import select
import subprocess
import sys
import threading
import time
import traceback

import pytest

import bound_sampler
from conftest import unmount

BOUND = 64 * 1000 * 1000
SECONDS = float(os.environ.get("CACHET_BOUND_S", "6"))
SEED = int(os.environ.get("CACHET_SEED", "1"))


class Crowd:
    """Threads until a moment; their unexpected errors are kept."""

    def __init__(self):
        self.until = time.monotonic() + SECONDS
        self.errors, self.threads = [], []
        self.refused = 0

    def start(self, what, *args):
        def run():
            try:
                while time.monotonic() < self.until:
                    what(*args)
            except Exception:  # pylint: disable=broad-except
                self.errors.append(traceback.format_exc())
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def join(self):
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a worker hangs"
        assert not self.errors, "\n".join(self.errors)


class Sampler:
    """The blocks of the volume, counted by a process of its own until done()."""

    def __init__(self, client):
        self.process = subprocess.Popen([sys.executable, bound_sampler.__file__, client.volume],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.daemon_is(client.pid())
        self.highest = self.n = 0

    def daemon_is(self, pid):
        self.process.stdin.write(f"{pid}\n")

    def wait_enough(self):
        """A busy machine gives it few turns a second."""
        assert select.select([self.process.stdout], [], [], 120)[0], "the volume is hardly looked at"
        self.process.stdout.readline()

    def done(self):
        self.highest, self.n = map(int, self.process.communicate(timeout=60)[0].split())


def write_some(crowd, folder, rng):
    """A file of any size, rewritten, cut, synced or removed; no space is an answer."""
    path = folder / f"f{rng.randrange(40)}"
    try:
        kind = rng.random()
        if kind < 0.15:
            path.unlink(missing_ok=True)
        elif kind < 0.3 and path.exists():
            with open(path, "r+b") as f:
                f.seek(rng.randrange(200000))
                f.write(rng.randbytes(rng.choice([10, 5000, 70000])))
        else:
            with open(path, "wb") as f:
                f.write(rng.randbytes(rng.choice([100, 4096, 30000, 300000, 3000000])))
                if rng.random() < 0.3:
                    f.flush()
                    os.fsync(f.fileno())
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        crowd.refused += 1
        time.sleep(0.02)


def read_some(folder, names, rng):
    """Offline, what was evicted is not to be had."""
    try:
        with open(folder / rng.choice(names), "rb") as f:
            f.seek(rng.randrange(2) * 100000)
            assert f.read(300000)
    except OSError as e:
        assert e.errno == errno.EHOSTUNREACH, e
        time.sleep(0.01)


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_the_bound_is_never_exceeded(server, make_client, home, offline):
    rng = random.Random(SEED)
    source = home / "source"
    source.mkdir()
    names = [f"record{i}" for i in range(60)]
    for n in names:
        (source / n).write_bytes(rng.randbytes(2_000_000))
    feeder = make_client("feeder", cache_size="400MB").mount()
    for n in names:
        (feeder.mnt / n).write_bytes((source / n).read_bytes())
    feeder.sync()
    feeder.umount()

    c = make_client("bounded", cache_size="64MB").mount()
    for n in names:  # what is here is read offline as well
        with open(c.mnt / n, "rb") as f:
            f.read(500_000)
    if offline:
        c.run("offline")
    crowd = Crowd()
    end, crowd.until = crowd.until, math.inf
    sampler = Sampler(c)
    for i in range(8):
        folder = c.mnt / f"writer{i}"
        folder.mkdir()
        crowd.start(write_some, crowd, folder, random.Random(f"{SEED} {i}"))
    for i in range(2):
        crowd.start(read_some, c.mnt, names, random.Random(f"{SEED} reader {i}"))
    try:
        sampler.wait_enough()
    finally:
        crowd.until = end
    crowd.join()
    sampler.done()
    print(f"highest {sampler.highest} of {BOUND} bytes in {sampler.n} samples, {crowd.refused} refusals")
    assert sampler.n > 100
    assert sampler.highest <= BOUND, f"{sampler.highest - BOUND} bytes over the bound"
    assert sampler.highest > BOUND // 2, "the bound was never near: nothing was tested"

    # Usable afterwards: what was written is sent, makes room, and new work is taken.
    if offline:
        assert crowd.refused, "unsent work fills the volume: writers must be told"
        assert c.status()["pending"]
        c.run("online")
    c.sync(timeout=120)
    (c.mnt / "after").write_bytes(b"a" * 500_000)
    c.sync()
    assert server.read("notes", "after") == b"a" * 500_000
    assert bound_sampler.blocks_under(c.volume) <= BOUND


GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.EIO, errno.ENOSPC)


def write_until_killed(crowd, folder, rng):
    """Large files that nobody closes: what a kill leaves of them is in no row."""
    try:
        with open(folder / f"f{rng.randrange(4)}", "wb", buffering=0) as f:
            for _ in range(100):
                f.write(rng.randbytes(1_000_000))
    except OSError as e:
        if e.errno not in GONE:
            raise
        crowd.refused += e.errno == errno.ENOSPC
        time.sleep(0.02)


def test_the_bound_holds_over_kills(make_client):
    c = make_client("killed", cache_size="64MB").mount()
    crowd = Crowd()
    sampler = Sampler(c)
    for i in range(4):
        (c.mnt / f"writer{i}").mkdir()
        crowd.start(write_until_killed, crowd, c.mnt / f"writer{i}", random.Random(f"{SEED} {i}"))
    kills = 0
    while time.monotonic() < crowd.until:
        time.sleep(0.7)
        c.sigkill()
        unmount(c.mnt)
        c.mount()
        sampler.daemon_is(c.pid())
        kills += 1
    crowd.join()
    sampler.done()
    print(f"highest {sampler.highest} of {BOUND} bytes in {sampler.n} samples, {kills} kills, {crowd.refused} refusals")
    assert kills > 0 and sampler.highest > BOUND // 2, "nothing was tested"
    assert sampler.highest <= BOUND, f"{sampler.highest - BOUND} bytes over the bound"
    c.sync(timeout=120)
    (c.mnt / "after").write_bytes(b"a" * 500_000)
    c.sync()


def test_a_file_larger_than_the_bound_is_read(server, make_client):
    content = random.Random(SEED).randbytes(100_000_000)
    server.write("notes", "large", content)
    c = make_client("small", cache_size="40MB").mount()
    c.sync()
    sampler = Sampler(c)
    with open(c.mnt / "large", "rb") as f:
        for off in range(0, len(content), 1_000_000):
            assert f.read(1_000_000) == content[off:off + 1_000_000]
    sampler.done()
    assert 20_000_000 < sampler.highest <= 40_000_000
    assert c.status()["fetched_bytes"] <= 1.1 * len(content)
