#!/usr/bin/python3
"""Power cuts of the whole mount, simulated: record what the daemon asks of its disk, then let the disk forget.

A workload runs on a real mount whose daemon is recorded (record.c). For each cut a moment in the log is chosen, and a
disk is made that has what was synced before it and a random part of what was not: writes by 512-byte sectors, names by
prefixes of what happened in their directory. The volume is mounted on that disk and every file must be one whole state that
the application asked for, none older than its last acknowledged fsync.

    powercut.py --cuts 20 --seed 7 [--seconds 6] [--rekey] [--keep]

Prints the runner's line `N passed, M failed` and exits 0 only if nothing failed. A failure names the seed and the cut.
"""
import argparse
import json
import mmap
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from conftest import BIN, Client, Server, is_mounted, unmount, wait_for  # noqa: E402

SECTOR = 512
PAGE = 4096
ABSENT = None


# --- the workload -------------------------------------------------------------------------------------------------

class Worker(threading.Thread):
    """One directory, one thread. Notes begin and end of each step in the log, between the daemon's entries."""

    def __init__(self, root, number, seed, note, stop):
        super().__init__(daemon=True)
        self.dir, self.number, self.note, self.stop = root / f"w{number}", number, note, stop
        self.random = random.Random(seed)
        self.version = 0
        self.contents = {}

    def body(self):
        """Content that names its writer and version in every line, so that a mixture is seen."""
        self.version += 1
        line = b"<%d:%d>" % (self.number, self.version)
        return (line * 20000)[: self.random.choice((5, 700, 4096, 9000, 65536, 70000, 150000))]

    def step(self, name, states, durable, action):
        """states: what the file may be from the beginning of the step on; the last is what it is at its end."""
        self.version += 1
        tag = f"{self.number}.{self.version}"
        key = f"w{self.number}/{name}"
        self.note({"begin": tag, "file": key, "states": [None if s is None else s.decode("latin-1") for s in states]})
        action()
        self.contents[name] = states[-1]
        self.note({"end": tag, "file": key, "durable": durable})

    def put(self, name, sync):
        data = self.body()

        def action():
            fd = os.open(self.dir / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(fd, data)
            if sync:
                os.fsync(fd)
            os.close(fd)
        self.step(name, [b"", data], sync, action)

    def save(self, name, sync):
        data = self.body()

        def action():
            fd = os.open(self.dir / (name + "~"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.write(fd, data)
            if sync:
                os.fsync(fd)
            os.close(fd)
            os.rename(self.dir / (name + "~"), self.dir / name)
            if sync:
                fd = os.open(self.dir, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
        # Where nothing is replaced, what was not synced may be empty: so it was created.
        fresh = not sync and self.contents.get(name) is ABSENT
        self.step(name, [b"", data] if fresh else [data], sync, action)

    def overwrite(self, name, how):
        """One page in place, durable at once: O_DSYNC, O_SYNC, fdatasync, or a mapping and msync."""
        old = self.contents[name]
        at = self.random.randrange(len(old) // PAGE) * PAGE
        page = (b"<%d:%d>" % (self.number, self.version + 1) * PAGE)[:PAGE]
        new = old[:at] + page + old[at + PAGE:]

        def mapped(fd):
            with mmap.mmap(fd, len(old)) as m:
                m[at:at + PAGE] = page
                m.flush()

        def action():
            fd = os.open(self.dir / name, os.O_RDWR | {"dsync": os.O_DSYNC, "sync": os.O_SYNC}.get(how, 0))
            if how == "msync":
                mapped(fd)
            else:
                os.pwrite(fd, page, at)
            if how == "fdatasync":
                os.fdatasync(fd)
            os.close(fd)
        self.step(name, [new], True, action)

    def append(self, name):
        new = self.contents[name] + b"<%d:%d>" % (self.number, self.version + 1) * 9

        def action():
            fd = os.open(self.dir / name, os.O_WRONLY | os.O_APPEND)
            os.write(fd, new[len(self.contents[name]):])
            os.fsync(fd)
            os.close(fd)
        self.step(name, [new], True, action)

    def remove(self, name):
        if (self.dir / name).exists():
            self.step(name, [ABSENT], False, lambda: os.unlink(self.dir / name))

    def run(self):
        self.dir.mkdir(exist_ok=True)
        while not self.stop.is_set():
            name = f"f{self.random.randrange(6)}"
            kind = self.random.random()
            if kind < 0.35:
                self.put(name, False)
            elif kind < 0.55:
                self.put(name, True)
            elif kind < 0.7:
                self.save(name, True)
            elif kind < 0.8:
                self.save(name, False)
            elif kind < 0.92:
                self.change(name)
            else:
                self.remove(name)

    def change(self, name):
        have = self.contents.get(name)
        if have is not None and len(have) >= PAGE:
            self.overwrite(name, self.random.choice(("dsync", "sync", "fdatasync", "msync")))
        elif have:
            self.append(name)


# --- the disk that forgets -----------------------------------------------------------------------------------------

class File:
    def __init__(self, data=b""):
        self.synced = bytearray(data)
        self.pending = []


class Dir:
    def __init__(self):
        self.synced = {}
        self.pending = []  # (name, object or None)


def apply(data, op):
    if op[0] == "write":
        _, off, piece = op
        if len(data) < off:
            data.extend(bytes(off - len(data)))
        data[off:off + len(piece)] = piece
    elif op[0] == "trunc":
        if op[1] <= len(data):
            del data[op[1]:]
        else:
            data.extend(bytes(op[1] - len(data)))
    else:
        _, off, length = op
        end = min(off + length, len(data))
        if off < end:
            data[off:end] = bytes(end - off)


class Disk:
    """Directories and files by inode number; what is synced, and what is only asked for."""

    def __init__(self, root):
        self.inodes = {}
        self.root = self.load(root)

    def load(self, path):
        node = Dir() if path.is_dir() else File(path.read_bytes())
        self.inodes[path.stat().st_ino] = node
        if isinstance(node, Dir):
            for child in path.iterdir():
                node.synced[child.name] = self.load(child)
        return node

    def entry(self, words, data):
        kind = words[0]
        if kind in ("create", "mkdir"):
            node = File() if kind == "create" else Dir()
            self.inodes[int(words[2])] = node
            self.inodes[int(words[1])].pending.append((words[3], node))
        elif kind == "rename":
            a, b = self.inodes[int(words[1])], self.inodes[int(words[3])]
            node = self.now(a)[words[2]]
            if a is b:
                a.pending.append(("rename", (words[2], words[4], node)))  # one step: both names or none
            else:
                b.pending.append((words[4], node))
                a.pending.append((words[2], None))
        elif kind == "unlink":
            self.inodes[int(words[1])].pending.append((words[2], None))
        elif kind == "sync":
            node = self.inodes.get(int(words[1]))
            if isinstance(node, File):
                for op in node.pending:
                    apply(node.synced, op)
            elif node:
                node.synced = self.names(node, len(node.pending))
            if node:
                node.pending = []
        else:
            node = self.inodes[int(words[1])]
            node.pending.append(("write", int(words[2]), data) if kind == "write" else
                                ("trunc", int(words[2])) if kind == "trunc" else
                                ("punch", int(words[2]), int(words[3])))

    @staticmethod
    def names(directory, n):
        out = dict(directory.synced)
        for name, node in directory.pending[:n]:
            if name == "rename":
                old, new, moved = node
                out.pop(old, None)
                out[new] = moved
            elif node is None:
                out.pop(name, None)
            else:
                out[name] = node
        return out

    def now(self, directory):
        return self.names(directory, len(directory.pending))

    def crash(self, rng, path, node=None, p=None):
        """Writes one possible disk below `path` (which must not exist)."""
        node = node or self.root
        p = rng.choice((0, 0.3, 0.6, 0.9, 1)) if p is None else p
        if isinstance(node, Dir):
            path.mkdir(mode=0o700)
            kept = {0: 0, 1: len(node.pending)}.get(p, rng.randint(0, len(node.pending)))
            for name, child in self.names(node, kept).items():
                self.crash(rng, path / name, child, p)
            return
        data = bytearray(node.synced)
        for op in node.pending:
            if op[0] != "write":
                if rng.random() < p:
                    apply(data, op)
                continue
            _, off, piece = op
            at = 0
            while at < len(piece):
                n = min(SECTOR - (off + at) % SECTOR, len(piece) - at)
                if rng.random() < p:
                    apply(data, ("write", off + at, piece[at:at + n]))
                at += n
        path.write_bytes(data)
        path.chmod(0o600)


def read_log(path):
    """[(words, data)] of the whole log; notes are (["note", text], b"")."""
    raw = path.read_bytes()
    out, at = [], 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        line = raw[at:end].decode()
        at = end + 1
        if line.startswith("{"):
            out.append((["note", line], b""))
            continue
        words = line.split(" ")
        data = b""
        if words[0] == "write":
            data = raw[at:at + int(words[3])]
            at += int(words[3])
        out.append((words, data))
    return out


# --- what must hold ----------------------------------------------------------------------------------------------

class History:
    """Per file: the states it was given, in order, and from when on each was begun, ended, durable."""

    def __init__(self):
        self.steps = {}

    def note(self, line):
        n = json.loads(line)
        steps = self.steps.setdefault(n["file"], [])
        if "begin" in n:
            steps.append({"tag": n["begin"], "durable": False,
                          "states": [None if s is None else s.encode("latin-1") for s in n["states"]]})
        else:
            step = steps[-1]
            assert step["tag"] == n["end"]
            step["durable"] = n["durable"]

    def allowed(self, name):
        """States of the last durable step's end, and everything begun after it."""
        out = [ABSENT]
        for step in self.steps.get(name, []):
            if step["durable"]:
                out = [step["states"][-1]]
            else:
                out += step["states"]
        return out


def check(mnt, history):
    bad = []
    have = {}
    for d in os.listdir(mnt):
        for name in os.listdir(mnt / d):
            have[f"{d}/{name}"] = (mnt / d / name).read_bytes()
    for name, steps in history.steps.items():
        got = have.get(name, ABSENT)
        if got not in history.allowed(name):
            bad.append(f"{name}: {None if got is None else (len(got), got[:24])} is none of "
                       f"{[None if s is None else (len(s), s[:24]) for s in history.allowed(name)]}"
                       f" after {len(steps)} steps")
    probe = mnt / "after-the-cut"
    probe.write_bytes(b"works")
    assert probe.read_bytes() == b"works"
    return bad


def rekeys(client, stop):
    """One after the other: new keys inside, while the workers work."""
    while not stop.is_set():
        client.run("rekey", "--wait")
    print(f"{json.loads(client.run('rekey', '--status', '--json').stdout)['epoch'] - 1} rekeys")


def record(client, home, seed, seconds, library, rekey):
    """Runs the workload on a recorded mount; returns the disk as it was before and the log."""
    log = home / "disk.log"
    disk = Disk(client.volume)  # what is there before anything is recorded counts as durable
    env = dict(client.env)
    client.env.update({"CACHET_RECORD": str(log), "CACHET_RECORD_ROOT": str(client.volume), "LD_PRELOAD": str(library)})
    client.mount("--offline")
    client.env = env
    fd = os.open(log, os.O_WRONLY | os.O_APPEND)

    def note(what):
        line = (json.dumps(what) + "\n").encode()
        assert os.write(fd, line) == len(line)
    stop = threading.Event()
    workers = [Worker(client.mnt, i, seed * 100 + i, note, stop) for i in range(3)]
    if rekey:
        workers.append(threading.Thread(target=rekeys, args=(client, stop), daemon=True))
    for w in workers:
        w.start()
    time.sleep(seconds)
    stop.set()
    for w in workers:
        w.join(30)
    client.umount()
    os.close(fd)
    return disk, read_log(log)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--cuts", type=int, default=20)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--seconds", type=float, default=6)
    p.add_argument("--rekey", action="store_true", help="the keys inside change all the time")
    p.add_argument("--keep", action="store_true", help="keep the directory of a failed run")
    a = p.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="cachet-power-"))
    library = home / "librecord.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "record.c"), "-ldl"],
                   check=True)
    server = Server(home)
    server.admin("store", "add", "notes", str(server.dir))
    server.start()
    client = Client(home, server)
    passed, failed = 0, []
    try:
        client.mount()
        client.sync()
        client.umount()
        server.stop()
        disk, log = record(client, home, a.seed, a.seconds, library, a.rekey)
        rng = random.Random(a.seed)
        cuts = sorted(rng.sample(range(len(log)), min(a.cuts, len(log))))
        history, at = History(), 0
        target = client.volume
        for cut in cuts:
            while at <= cut:
                words, data = log[at]
                if words[0] == "note":
                    history.note(words[1])
                else:
                    disk.entry(words, data)
                at += 1
            shutil.rmtree(target)
            disk.crash(rng, target)
            try:
                client.mount("--offline")
                bad = check(client.mnt, history)
                client.umount()
            except (AssertionError, OSError) as e:
                bad = [f"{type(e).__name__}: {e}"]
                client.close()
                wait_for(lambda: not is_mounted(client.mnt))
            if bad:
                failed.append(cut)
                print(f"seed {a.seed} cut {cut}/{len(log)}: {bad[0]}", file=sys.stderr)
            else:
                passed += 1
    finally:
        client.close()
        unmount(client.mnt)
        server.stop()
        if not (a.keep and failed):
            shutil.rmtree(home, ignore_errors=True)
        else:
            print(f"kept {home}", file=sys.stderr)
    print(f"power cuts, seed {a.seed}, {len(log)} disk operations")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
