#!/usr/bin/python3
"""Power cuts of the server, simulated, as powercut.py does it for the mount: its disk is recorded under clients that write,
then made to forget, at random moments, what was not synced.

On each such disk a server starts, and what it acknowledged before the cut is there: records with their content, places and
ETags, the highest number of a device, keys of devices. What was under way is wholly there or not at all, and sent again under its
key it is done once. All content is whole, the database passes its own check, the audit log verifies.

    powercut_server.py --cuts 20 --seed 7 [--seconds 4] [--keep]

Prints `N passed, M failed` and exits 0 only if nothing failed. A failure names the seed and the cut.
"""
import argparse
import base64
import hashlib
import json
import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]
from enrolment import Device  # noqa: E402
from powercut import Disk, read_log  # noqa: E402
from server_fixtures import Server, command, new_key, op_put  # noqa: E402

SIZES = (10, 3000, 16384, 16385, 40000, 150000)  # both sides of what stays in the database


class Operation:
    """States of records it leads to (None: deleted), and how it is sent, again and again under one key."""

    def __init__(self, writer, states, send, seq=None):
        self.writer, self.states, self.send, self.seq = writer, states, send, seq
        self.etags = {}


def etags(answer):
    """{id: ETag} of an answer that says it is done."""
    if answer.status not in (200, 201):
        raise AssertionError(f"not done: {answer}")
    j = answer.json
    if "results" in j:
        assert all(r["status"] == 201 for r in j["results"]), j
        return {r["record"]["id"]: r["record"]["etag"] for r in j["results"]}
    return {j["id"]: j["etag"]}


class Writer(threading.Thread):
    def __init__(self, server, n, seed, note, stop):
        super().__init__(daemon=True)
        self.client, self.n, self.note, self.stop = server.client(device=new_key()), n, note, stop
        self.random = random.Random(seed)
        self.count = 0
        self.now = {}  # id -> ((name, digest), etag)
        self.error = None

    def content(self):
        self.count += 1
        return (b"<%d:%d>" % (self.n, self.count) * 20000)[:self.random.choice(SIZES)]

    def put(self, rid, match, name):
        data, key = self.content(), new_key()
        seq = self.client.seq + 1

        def send(client):
            client.device, client.seq = self.client.device, seq - 1
            return client.put(rid, data, match=match, key=key, name=None if match else name)
        return Operation(self, {rid: (name, hashlib.sha256(data).hexdigest())}, send, seq)

    def rename(self, rid, match, digest):
        name, key = f"{rid}.{self.count}", new_key()
        return Operation(self, {rid: (name, digest)}, lambda client: client.patch(rid, match, {"name": name}, key=key))

    def delete(self, rid, match):
        key = new_key()
        return Operation(self, {rid: None}, lambda client: client.delete(rid, match, key=key))

    def batch(self):
        ops = [op_put(f"b{self.n}-{self.count}-{i}", f"b{self.n}-{self.count}-{i}", self.content()) for i in range(4)]
        states = {o["id"]: (o["name"], hashlib.sha256(base64.b64decode(o["content"])).hexdigest()) for o in ops}
        return Operation(self, states, lambda client: client.batch(ops))

    def next(self):
        self.count += 1
        what = self.random.random()
        live = list(self.now)
        if what < 0.35 or not live:
            rid = f"w{self.n}-{self.count}"
            return self.put(rid, None, rid)
        rid = self.random.choice(live)
        (name, digest), etag = self.now[rid]
        if what < 0.6:
            return self.put(rid, etag, name)
        if what < 0.75:
            return self.rename(rid, etag, digest)
        return self.delete(rid, etag) if what < 0.9 else self.batch()

    def run(self):
        try:
            while not self.stop.is_set():
                op = self.next()
                number = self.note("begin", op)
                op.etags = etags(op.send(self.client))
                self.note("end", op, number)
                for rid, state in op.states.items():
                    self.now.pop(rid, None)
                    if state:
                        self.now[rid] = (state, op.etags[rid])
        except BaseException as e:  # shown by main()
            self.error = e
        self.client.close()


class Rotator(threading.Thread):
    """A device that asks for new keys: each that it was given it must be given again."""

    def __init__(self, server, note, stop):
        super().__init__(daemon=True)
        self.device, self.note, self.stop, self.error = Device(server.client()), note, stop, None
        self.device.enrol()

    def run(self):
        try:
            while not self.stop.is_set():
                kid, kek = self.device.kek(verb="rotate")
                self.note("key", (kid, kek))
                time.sleep(0.02)
        except BaseException as e:
            self.error = e
        self.device.client.close()


class Log:
    """Numbers operations and notes their begin and end between the server's entries."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.lock, self.things = threading.Lock(), []

    def note(self, what, thing, number=None):
        with self.lock:
            if number is None:
                self.things.append(thing)
                number = len(self.things) - 1
        line = (json.dumps({what: number}) + "\n").encode()
        assert os.write(self.fd, line) == len(line)
        return number


class History:
    def __init__(self, things):
        self.things = things
        self.begun, self.ended, self.keys = [], set(), []

    def note(self, line):
        (what, number), = json.loads(line).items()
        if what == "begin":
            self.begun.append(number)
        elif what == "end":
            self.ended.add(number)
        else:
            self.keys.append(self.things[number])

    def under_way(self):
        return [self.things[n] for n in self.begun if n not in self.ended]

    def allowed(self):
        """{id: [states it may have]}"""
        out = {}
        for n in self.begun:
            for rid, state in self.things[n].states.items():
                if n in self.ended:
                    out[rid] = [state]
                else:
                    out.setdefault(rid, [None]).append(state)
        return out


def served(home, data):
    s = Server.__new__(Server)
    s.home, s.dir, s.options, s.process, s.port = home, data, (), None, 0
    s.port_file, s.log = home / "port", home / "log"
    return s.start()


def check_records(client, history):
    records, _ = client.everything()
    allowed = history.allowed()
    assert set(records) <= set(allowed), "records nobody made"
    for rid, states in allowed.items():
        r = records.get(rid)
        got = (r["name"], r["sha256"]) if r else None
        assert got in states, f"{rid} is {got}, none of {states}"
        if r:
            a = client.get(rid)
            assert a.status == 200 and len(a.body) == r["size"] and hashlib.sha256(a.body).hexdigest() == r["sha256"], a


def check_again(server, token, history):
    """What was under way is done once; the last that was acknowledged is not done again."""
    last, seqs = {}, {}
    for n in history.begun:
        if n in history.ended:
            op = history.things[n]
            last[op.writer] = op
            seqs[op.writer] = max(seqs.get(op.writer, 0), op.seq or 0)
    for writer, op in last.items():
        client = server.client(token)
        a = op.send(client)
        assert etags(a) == op.etags and ("results" in a.json or a.headers["Cachet-Replayed"] == "true"), a
        a = client.call("GET", "/v1", headers={"Cachet-Device": writer.client.device})
        assert a.json["last_seq"] >= seqs[writer], a
        client.close()
    for op in history.under_way():
        client = server.client(token)
        first = etags(op.send(client))
        assert etags(op.send(client)) == first
        client.close()
    client = server.client(token)
    records, _ = client.everything()
    for op in history.under_way():
        for rid, state in op.states.items():
            r = records.get(rid)
            assert ((r["name"], r["sha256"]) if r else None) == state, (rid, r, state)
    client.close()


def check_keys(server, token, rotator, history):
    device = rotator.device
    device.client = server.client(token)
    for kid, kek in history.keys[-3:]:
        assert device.kek(prefer=kid) == (kid, kek)
    current = device.call("GET", "/v1").json["device"]["kid"]
    if history.keys and current in [k for k, _ in history.keys]:
        assert current == history.keys[-1][0], "an older key is current again"
    device.client.close()


def check(home, data, token, rotator, history):
    server = served(home, data)
    try:
        client = server.client(token)
        check_records(client, history)
        client.close()
        check_again(server, token, history)
        check_keys(server, token, rotator, history)
        subprocess.run([*command(), "audit", "--verify", str(data)], check=True, capture_output=True)
    finally:
        server.close()
    db = sqlite3.connect(data / "records.db")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def record(server, home, seed, seconds, library):
    """Runs the workload on a recorded server; the disk as it was before, the log, and what was done."""
    log = home / "disk.log"
    disk = Disk(server.dir)  # what is there before anything is recorded counts as durable
    os.environ.update({"CACHET_RECORD": str(log), "CACHET_RECORD_ROOT": str(server.dir), "LD_PRELOAD": str(library)})
    try:
        server.start()
    finally:
        for name in ("CACHET_RECORD", "CACHET_RECORD_ROOT", "LD_PRELOAD"):
            del os.environ[name]
    notes, stop = Log(log), threading.Event()
    rotator = Rotator(server, notes.note, stop)
    threads = [Writer(server, n, seed * 100 + n, notes.note, stop) for n in range(3)] + [rotator]
    for t in threads:
        t.start()
    time.sleep(seconds)
    stop.set()
    for t in threads:
        t.join(30)
        if t.error:
            raise t.error
    server.stop()
    os.close(notes.fd)
    return disk, read_log(log), notes.things, rotator


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--cuts", type=int, default=20)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--keep", action="store_true", help="keep the directory of a failed run")
    a = p.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="cachet-power-server-"))
    library = home / "librecord.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "record.c"), "-ldl"],
                   check=True)
    passed, failed = 0, []
    try:
        server = Server(home)
        server.start()
        server.stop()  # makes its directories and its master key
        disk, log, things, rotator = record(server, home, a.seed, a.seconds, library)
        rng = random.Random(a.seed)
        first = next(i for i, (words, _) in enumerate(log) if words[0] == "note" and "begin" in words[1])
        history, at, target = History(things), 0, home / "crashed"
        for cut in sorted(rng.sample(range(first, len(log)), min(a.cuts, len(log) - first))):
            while at <= cut:
                words, data = log[at]
                if words[0] == "note":
                    history.note(words[1])
                else:
                    disk.entry(words, data)
                at += 1
            shutil.rmtree(target, ignore_errors=True)
            disk.crash(rng, target)
            try:
                check(home, target, server.token, rotator, history)
                passed += 1
            except Exception as e:  # whatever: it is this cut that did it
                failed.append(cut)
                print(f"seed {a.seed} cut {cut}/{len(log)}: {type(e).__name__}: {str(e)[:600]}", file=sys.stderr)
                if a.keep:
                    break
    finally:
        if a.keep and failed:
            print(f"kept {home}", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)
    print(f"power cuts of the server, seed {a.seed}, {len(log)} disk operations, {len(things)} requests and keys")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
