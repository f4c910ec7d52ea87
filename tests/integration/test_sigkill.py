"""Promise P2: SIGKILL of the daemon loses nothing that was answered.

Writers run random operations against the mount and note what was answered (close, rename, unlink, mkdir, setattr, xattr); the
daemon is killed at a random moment, mounted again, and every file must be one whole state: the last answered one, or the one whose answer
was under way. Reproduce with CACHET_SEED; CACHET_ROUNDS makes it a campaign.
"""
import errno
import os
import random
import signal
import threading
import time

from conftest import kill_and_wait, unmount

ROUNDS = int(os.environ.get("CACHET_ROUNDS", "6"))
SEED = int(os.environ.get("CACHET_SEED", str(int(time.time()))))
DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENOENT)


class Writer(threading.Thread):
    """Owns one directory; `done` is the answered state, `doing` what may or may not have happened."""

    def __init__(self, root, number, seed, state):
        super().__init__()
        self.dir = root / f"w{number}"
        self.random = random.Random(seed)
        self.done = state  # name -> bytes
        self.doing = {}    # name -> set of other allowed states (None = absent)
        self.number = number
        self.answered = 0
        self.failed = None

    def body(self):
        tag = b"%d.%d " % (self.number, self.random.randrange(1 << 40))
        return (tag * self.random.choice((1, 10, 400, 9000)))[: self.random.randrange(1, 200000)]

    def write(self, name, data):
        self.doing = {name: {data, b""}}
        fd = os.open(self.dir / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        self.done[name] = data

    def save(self, name, data):
        tmp = name + ".tmp"
        self.doing = {tmp: {data, b"", None}, name: {data}}
        fd = os.open(self.dir / tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(self.dir / tmp, self.dir / name)
        self.done.pop(tmp, None)  # one may be left from the round before
        self.done[name] = data

    def patch(self, name):
        old = self.done[name]
        at = self.random.randrange(len(old))
        piece = self.body()[:5000]
        new = old[:at] + piece + old[at + len(piece):]
        self.doing = {name: {new}}
        fd = os.open(self.dir / name, os.O_WRONLY)
        try:
            os.pwrite(fd, piece, at)
        finally:
            os.close(fd)
        self.done[name] = new

    def truncate(self, name):
        old = self.done[name]
        new = old[: self.random.randrange(len(old))]
        self.doing = {name: {new}}
        os.truncate(self.dir / name, len(new))
        self.done[name] = new

    def unlink(self, name):
        self.doing = {name: {None}}
        os.unlink(self.dir / name)
        del self.done[name]

    def rename(self, name, to):
        data = self.done[name]
        self.doing = {name: {None}, to: {data}}
        os.rename(self.dir / name, self.dir / to)
        del self.done[name]
        self.done[to] = data

    def step(self):
        have = [n for n in self.done if self.done[n]]
        kind = self.random.random()
        name = f"f{self.random.randrange(12)}"
        if not have or kind < 0.4:
            self.write(name, self.body())
        elif kind < 0.6:
            self.save(name, self.body())
        elif kind < 0.75:
            self.patch(self.random.choice(have))
        elif kind < 0.85:
            self.truncate(self.random.choice(have))
        elif kind < 0.92:
            self.unlink(self.random.choice(list(self.done)))
        else:
            a = self.random.choice(list(self.done))
            b = name
            if a != b:
                self.rename(a, b)
        self.doing = {}
        self.answered += 1

    def run(self):
        try:
            self.dir.mkdir(exist_ok=True)
            while True:
                self.step()
        except OSError as e:
            if e.errno not in DEAD:
                self.failed = e

    def check(self):
        bad = []
        names = set(os.listdir(self.dir)) if self.dir.exists() else set()
        for name in names | set(self.done) | set(self.doing):
            got = (self.dir / name).read_bytes() if name in names else None
            allowed = {self.done.get(name)} | self.doing.get(name, set())
            if got not in allowed:
                bad.append((self.number, name, None if got is None else (len(got), got[:40]),
                            [None if a is None else (len(a), a[:40]) for a in allowed]))
            if got is None:
                self.done.pop(name, None)
            else:
                self.done[name] = got
        self.doing = {}
        return bad


def test_sigkill_loses_nothing_that_was_answered(make_client):
    rng = random.Random(SEED)
    client = make_client().mount()
    states = [{} for _ in range(4)]
    answered = 0
    for round_ in range(ROUNDS):
        writers = [Writer(client.mnt, i, rng.random(), states[i]) for i in range(4)]
        pid = client.pid()
        for w in writers:
            w.start()
        time.sleep(rng.uniform(0.1, 1.5))
        kill_and_wait(pid, signal.SIGKILL)
        for w in writers:
            w.join(30)
            assert not w.is_alive(), "a writer hangs on the dead mount"
        unmount(client.mnt)
        client.mount()
        bad = [b for w in writers for b in w.check()]
        assert not bad, f"seed {SEED} round {round_}: {bad[:3]}"
        assert all(w.failed is None for w in writers), [w.failed for w in writers]
        answered += sum(w.answered for w in writers)
    assert answered > 0
    client.sync(120, "--allow-deletes")
    assert client.status()["pending"] == 0
    print(f"seed {SEED}: {ROUNDS} kills, {answered} answered operations, 0 lost")
