"""The server under many clients, and killed under them: what it acknowledged is there afterwards, exactly once."""
import os
import random
import sqlite3
import subprocess
import threading
import time

import pytest

from server_fixtures import Server, new_key, op_put

KILLS = int(os.environ.get("CACHET_SERVER_KILLS", "12"))


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path).start()
    yield s
    s.close()


class Writer(threading.Thread):
    """One client with its own directory: makes, replaces, renames and deletes, repeating each request until it is answered."""

    def __init__(self, server, n):
        super().__init__()
        self.server, self.n = server, n
        self.client = server.client(device=new_key())
        self.random = random.Random(n)
        self.model = {}  # id -> (name, content, etag), as acknowledged
        self.deleted = set()
        self.acknowledged = self.replayed = self.count = 0
        self.error = None
        self.finish = threading.Event()

    def until_answered(self, send):
        while True:
            try:
                a = send()
            except Exception as e:  # the server was killed: the same request again, under the same key
                if self.finish.is_set() and self.server.process is None:
                    return None
                assert isinstance(e, (OSError, Exception))
                time.sleep(0.02)
                continue
            if a.status == 503:
                time.sleep(0.02)
                continue
            self.acknowledged += 1
            self.replayed += a.headers.get("Cachet-Replayed") == "true"
            return a

    def make(self):
        rid, key = f"w{self.n}-{self.count}", new_key()
        content = os.urandom(self.random.choice([10, 500, 20_000]))
        a = self.until_answered(lambda: self.client.put(rid, content, name=rid, parent=f"dir{self.n}", key=key))
        assert a.status == 201, a
        self.model[rid] = (rid, content, a.json["etag"])

    def replace(self, rid):
        name, _, etag = self.model[rid]
        content, key = os.urandom(self.random.choice([10, 30_000])), new_key()
        a = self.until_answered(lambda: self.client.put(rid, content, match=etag, key=key))
        assert a.status == 200, a
        self.model[rid] = (name, content, a.json["etag"])

    def rename(self, rid):
        _, content, etag = self.model[rid]
        name, key = f"{rid}-{self.count}", new_key()
        a = self.until_answered(lambda: self.client.patch(rid, etag, {"name": name}, key=key))
        assert a.status == 200, a
        self.model[rid] = (name, content, a.json["etag"])

    def remove(self, rid):
        etag, key = self.model[rid][2], new_key()
        a = self.until_answered(lambda: self.client.delete(rid, etag, key=key))
        assert a.status == 200, a
        del self.model[rid]
        self.deleted.add(rid)

    def batch(self):
        ops = [op_put(f"w{self.n}-{self.count}-{i}", f"w{self.n}-{self.count}-{i}", os.urandom(50), parent=f"dir{self.n}")
               for i in range(10)]
        a = self.until_answered(lambda: self.client.batch(ops))
        assert [r["status"] for r in a.json["results"]] == [201] * 10
        import base64
        for op, r in zip(ops, a.json["results"]):
            self.model[op["id"]] = (op["name"], base64.b64decode(op["content"]), r["record"]["etag"])

    def run(self):
        try:
            self.until_answered(lambda: self.client.put(f"dir{self.n}", name=f"dir{self.n}", kind="dir", key=f"{self.n:032x}"))
            while not self.finish.is_set():
                self.count += 1
                some = self.random.choice(list(self.model)) if self.model else None
                what = self.random.random()
                if what < 0.3 or not some:
                    self.make()
                elif what < 0.4:
                    self.batch()
                elif what < 0.7:
                    self.replace(some)
                elif what < 0.85:
                    self.rename(some)
                else:
                    self.remove(some)
        except BaseException as e:  # shown by the test
            self.error = e
        self.client.close()


def check(server, writers):
    c = server.client()
    records, _ = c.everything()
    for w in writers:
        mine = {i: r for i, r in records.items() if r["parent"] == f"dir{w.n}"}
        assert set(mine) == set(w.model)
        for rid, (name, content, etag) in w.model.items():
            a = c.get(rid)
            assert a.body == content and mine[rid]["name"] == name and mine[rid]["etag"] == etag
        for rid in w.deleted:
            assert c.get(rid).status == 410
    c.close()
    return len(records)


def check_database(server, live):
    db = sqlite3.connect(server.dir / "records.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT count(*) FROM records WHERE deleted = 0").fetchone() == (live,)
    assert db.execute("SELECT records, bytes FROM stores").fetchone() == db.execute(
        "SELECT count(*), sum(size) FROM records WHERE deleted = 0").fetchone()
    named = {r[0].hex() for r in db.execute("SELECT file FROM records WHERE file IS NOT NULL")}
    there = {p.name for p in (server.dir / "content").rglob("*") if p.is_file()}
    assert named == there
    db.close()


def test_killed_in_a_loop_under_load_it_keeps_every_acknowledged_write_exactly_once(server):
    writers = [Writer(server, n) for n in range(6)]
    for w in writers:
        w.start()
    rng = random.Random(5)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.05, 0.6))
        if rng.random() < 0.25:
            server.stop()  # by SIGTERM, under the same load: ends in time and with 0
        else:
            server.kill()
        server.start()
    time.sleep(0.5)
    for w in writers:
        w.finish.set()
    for w in writers:
        w.join(60)
        assert not w.is_alive()
        if w.error:
            raise w.error
    live = check(server, writers)
    # A fresh start removes what the last kills left behind; then files and rows agree exactly.
    server.stop()
    server.start()
    server.stop()
    check_database(server, live)
    print(f"{KILLS} kills, {sum(w.acknowledged for w in writers)} acknowledged, {sum(w.replayed for w in writers)} replayed")
    server.start()


def test_concurrent_clients_on_the_same_records_lose_no_update(server):
    """Each increments a counter by read and conditional write; every success counts once."""
    server.client().make("counter", "counter", b"0")
    total, lock = [0], threading.Lock()

    def work():
        c, done = server.client(), 0
        while done < 25:
            a = c.get("counter")
            w = c.put("counter", str(int(a.body) + 1).encode(), match=a.headers["ETag"])
            assert w.status in (200, 412)
            done += w.status == 200
        with lock:
            total[0] += done
        c.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert int(server.client().get("counter").body) == total[0] == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small tmpfs")
def test_a_full_disk_is_507_and_loses_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", small], check=True)
    try:
        s = Server(small).start()
        try:
            c, kept, refused = s.client(), {}, set()
            for i in range(400):
                content = os.urandom(500_000 if i % 2 else 9_000)
                a = c.put(f"r{i}", content, name=f"r{i}")
                if a.status == 201:
                    kept[f"r{i}"] = content
                else:
                    assert a.status == 507 and a.problem == "no-space", a
                    refused.add(i % 2)
            assert refused and kept
            assert set(c.everything()[0]) == set(kept)
            for rid, content in kept.items():
                assert c.get(rid).body == content
            c.close()
        finally:
            s.close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_2xx_is_sent_after_the_sync(tmp_path):
    """strace: between the last read of a PUT and the first byte of its 201 there is the sync of log, file and directory."""
    s = Server(tmp_path).start()
    try:
        c = s.client()
        c.make("warm", "warm", b"w" * 30_000)  # database and log exist
        trace = tmp_path / "trace"
        strace = subprocess.Popen(["strace", "-f", "-y", "-s", "64", "-o", str(trace), "-e",
                                   "trace=fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,send,write,writev,pwrite64",
                                   "-p", str(s.process.pid)], stderr=subprocess.PIPE)
        time.sleep(1)
        c.make("small", "small", b"tiny")
        time.sleep(0.3)
        c.make("large", "large", b"l" * 50_000)
        time.sleep(0.3)
        strace.terminate()
        strace.wait()
        lines = trace.read_text(errors="replace").splitlines()
        answers = [i for i, line in enumerate(lines) if "HTTP/1.1 201" in line]
        assert len(answers) == 2, lines
        first, second = lines[:answers[0]], lines[answers[0]:answers[1]]

        def at(where, *words):
            found = [i for i, line in enumerate(where) if all(w in line for w in words) and "= -1" not in line]
            assert found, (words, where)
            return found[-1]

        # Small: the log is written, then synced, then the answer.
        assert at(first, "pwrite64", "records.db-wal") < at(first, "sync(", "records.db-wal")
        # Large: file synced, renamed, directory synced; then the log written and synced; then the answer.
        order = [at(second, "sync(", "/data/tmp/"), at(second, "rename"), at(second, "fsync(", "/content/"),
                 at(second, "pwrite64", "records.db-wal"), at(second, "sync(", "records.db-wal")]
        assert order == sorted(order), second
        for part in (first, second):  # no sync was still under way when the answer left
            started = sum("sync(" in line and "<unfinished" in line for line in part)
            assert started == sum("sync resumed" in line for line in part), part
        c.close()
    finally:
        s.close()
