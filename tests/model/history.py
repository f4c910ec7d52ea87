"""
One random history: devices that share a store, faults between them and the server, and what must be true at the end.

The devices are tests/tools/sync_shell (the daemon's own code without a mount), the server is the real one, between each device
and the server stands a fault proxy. Operations and faults are drawn from the seed, by name and not by what is there, so a
seed is one script; threads and the network make its interleavings, so a violation may need a few tries to come again.

Every content is a word used once, or a JSON object whose members are such words. Each device has a rule for conflicts: none, merge, ours,
theirs. A word is *live* while nobody who saw it replaced or deleted it. At the end:

 1. the server's state is that of the acknowledged changes, each once, in order, each based on the one before (ledger.py);
 2. all devices have the server's tree; nothing is left in a journal or refused;
 3. every live word is somewhere (no lost update), and none is two versions mixed;
 4. no overwritten word comes back (no resurrection);
 5. a member of a JSON object that was replaced is nowhere, unless a conflict kept two files;
 6. a rule that lets one side go (ours, theirs) lost no more than its conflicts' words;
 7. a conflict copy is in every tree and in every device's list, and no list has another; alone, a device has no conflicts and its
    tree is what its user made;
 8. when one device settles its conflicts by keeping both, the copies of all lists go.
"""
import hashlib
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import server_fixtures  # noqa: E402
from ledger import Ledger, asked, operations  # noqa: E402
from proxy import FAULTS, Proxy  # noqa: E402

ANSWER_S = 60
SETTLE_S = 15
AGREE_S = 5
SLOWER = 4  # times as patient with a slow history
LATENCIES_S = (0, 0.02, 0.1, 0.3)
STUTTERS = ((2000, 20000), (200, 3000), (20, 300))  # one unlock in so many sleeps, up to so many microseconds
PAUSE_S = 0.4
SIZES = (0, 7, 200, 3000, 70000, 300000) * 3 + (1500000,)
RULES = ("none", "none", "merge", "merge", "merge", "ours", "theirs")
MEMBERS = ("a", "b", "c", "d")
WORDS = re.compile(r"\bw\d+\b")
COPY = re.compile(r".\(conflict d\d+ [0-9]{4}-[0-9-]{5} [0-9-]{5}\)(-[0-9]+)?(\.[^/]*)?$")


class Violation(Exception):
    pass


class Device:
    def __init__(self, history, number):
        self.h, self.name = history, f"d{number}"
        self.proxy = Proxy(history.server.port, history.random.random()).start()
        if history.rewrite:
            self.proxy.rewrite, self.proxy.tells_rewritten = history.rewrite
        if history.slow:
            self.proxy.latency = history.slow.choice(LATENCIES_S)
        self.rule = history.random.choice(RULES)
        self.dir = history.dir / self.name
        self.log = open(history.dir / (self.name + ".log"), "ab")
        self.read = 0
        self.start()

    def start(self):
        env = dict(os.environ, CACHET_SHELL_HOST=self.name, CACHET_SHELL_DEBOUNCE_MS="10", CACHET_SHELL_PROBE_MS="200")
        if self.rule != "none":
            env["CACHET_SHELL_MERGE"] = self.rule
        if self.h.slow:
            one_in, max_us = self.h.slow.choice(STUTTERS)
            env["LD_PRELOAD"] = self.h.tools + "/stutter.so"
            env["CACHET_STUTTER"] = f"{self.h.slow.getrandbits(32)} {one_in} {max_us}"
        self.p = subprocess.Popen([self.h.tools + "/sync_shell", str(self.dir), f"http://127.0.0.1:{self.proxy.port}",
                                   self.h.server.token], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=env)
        self.rest = b""
        if self.answer() != "ready":
            raise Violation(f"{self.name} does not start: {self.tail()}")

    def tail(self):
        return pathlib.Path(self.log.name).read_text()[-1500:]

    def answer(self):
        while b"\n" not in self.rest:
            if not select.select([self.p.stdout], [], [], ANSWER_S)[0]:
                raise Violation(f"{self.name} hangs")
            data = os.read(self.p.stdout.fileno(), 1 << 16)
            if not data:
                raise Violation(f"{self.name} died ({self.p.wait()}): {self.tail()}")
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode("utf-8", "surrogateescape").strip("\r\n ")

    def send(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()

    def __call__(self, line):
        self.send(line)
        return self.answer()

    def ok(self, line):
        out = self(line)
        if not out.startswith("ok"):
            raise Violation(f"{self.name}: {line}: {out}")
        return out[2:].strip(" ")

    def kill(self):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()

    def stop(self):
        self.send("stop")
        out = self.answer()
        if self.p.wait(20) or not out.startswith("stopped"):
            raise Violation(f"{self.name} does not stop: {out} {self.tail()}")
        self.p.stdin.close()
        self.p.stdout.close()

    def tree(self):
        cells = self.ok("tree " + self.h.store).split("\t")[1:]
        return {cells[i]: tuple(cells[i + 1:i + 4]) for i in range(0, len(cells) - 3, 4)}

    def versions(self):
        """{record: ETag}, and the ETags of contents."""
        cells = self.ok("versions " + self.h.store).split("\t")[1:]
        rows = [cells[i:i + 3] for i in range(0, len(cells) - 2, 3)]
        return {rid: etag for rid, etag, _ in rows if rid != "-"}, {of for *_, of in rows if of != "-"}

    def take_seen(self):
        seen = self.proxy.seen
        new = seen[self.read:]
        self.read += len(new)
        return new


class Pauses(threading.Thread):
    """Devices that stand still now and then, as on a busy machine."""

    def __init__(self, history):
        super().__init__(daemon=True)
        self.h, self.random, self.over = history, random.Random(history.slow.random()), threading.Event()

    def run(self):
        while not self.over.wait(self.random.random() * 0.1):
            p = self.random.choice(self.h.devices).p
            p.send_signal(signal.SIGSTOP)
            self.over.wait(self.random.random() ** 3 * PAUSE_S)
            p.send_signal(signal.SIGCONT)

    def stop(self):
        self.over.set()
        self.join()


class History:
    def __init__(self, seed, devices, steps, directory, tools, plant=None, verbose=False, slow=False):
        self.seed, self.steps, self.tools, self.verbose = seed, steps, tools, verbose
        self.random = random.Random(seed)
        self.slow = random.Random(f"slow {seed}") if slow else None
        self.pauses, self.patience = None, SLOWER if slow else 1
        self.dir = pathlib.Path(directory)
        self.store = "main"
        make, told = PLANTS[plant] if plant else (None, False)
        bug = make and make()
        self.rewrite = bug and (lambda request: _each_op(request, bug), told)
        self.server = server_fixtures.Server(self.dir / "server")
        self.server.start()
        self.devices = []
        self.ledger = Ledger()
        self.live, self.linked = set(), set()
        self.members, self.members_linked = set(), False  # words in JSON objects
        self.unknown = 0  # contents destroyed that the device could not name
        self.unread = []  # ETags of what was destroyed and nobody has told the content of yet
        self.by_sha = {}
        self.words = 0
        self.server_kills = self.device_kills = self.partitions = self.done = 0
        try:
            for n in range(devices):
                self.devices.append(Device(self, n + 1))
        except BaseException:
            self.close()
            raise
        if self.slow:
            self.pauses = Pauses(self)
            self.pauses.start()

    def say(self, text):
        if self.verbose:
            print(f"  {text}", flush=True)

    # --- what a user does ---

    def path(self):
        names, dirs = ("a", "b", "c", "e.txt", "j.json"), ("", "", "x/", "y/", "x/z/", "c/")
        return f"{self.store}/{self.random.choice(dirs)}{self.random.choice(names)}"

    def folder(self):
        return f"{self.store}/{self.random.choice(('x', 'y', 'x/z', 'c', 'y/z'))}"

    def any_path(self):
        return self.path() if self.random.random() < 0.75 else self.folder()

    def command(self):
        """(line, the word it makes or None)"""
        what = self.random.choice(("write",) * 8 + ("mkdir",) * 4 + ("unlink",) * 3 + ("rename",) * 5 + ("jset",) * 6 + ("peek",) * 2 +
                                  ("exchange", "exchange", "rmdir", "rmdir", "link", "chmod", "chmod", "ln", "trim", "evict"))
        if what == "write":
            self.words += 1
            return f"write {self.path()} w{self.words} {self.random.choice(SIZES)}", f"w{self.words}"
        if what == "jset":
            self.words += 1
            where = self.random.choice(("", "", "x/", "x/z/")) + "j.json"
            return f"jset {self.store}/{where} {self.random.choice(MEMBERS)} w{self.words}", f"w{self.words}"
        if what == "peek":
            return f"peek {self.path()} {self.random.choice((0, 100, 65536, 200000, 1000000))} {self.random.choice((50, 70000))}", None
        if what == "trim":
            return f"trim {self.path()} {self.random.choice((7, 200, 3000, 70000))}", None
        if what == "evict":
            return f"evict {self.store}", None
        if what == "unlink":
            return f"unlink {self.path()}", None
        if what in ("mkdir", "rmdir"):
            return f"{what} {self.folder()}", None
        if what == "chmod":
            return f"chmod {self.any_path()} {self.random.choice(('600', '640', '700', '755'))}", None
        if what == "ln":
            return f"ln over/there {self.path()}", None
        return f"{what} {self.any_path()} {self.any_path()}", None

    def note(self, line, word, out):
        """What an answered operation means for the words."""
        words = line.split(" ")
        if not out.startswith("ok"):
            return
        said = out[2:].strip()
        if words[0] == "peek":
            if said != "-" and said not in self.by_sha.values():
                raise Violation(f"{line} reads {said}")
            return
        if words[0] == "evict":
            return
        self.done += 1
        if words[0] in ("write", "unlink", "rename", "jset"):
            self.drop(said)
        if words[0] == "trim":
            self.register(said, int(words[2]))
        if words[0] == "link":  # a link of what another device has replaced may come later
            self.linked.update(self.by_sha.values())
            self.members_linked = True
        if words[0] == "write" and int(words[3]) or words[0] == "jset":
            self.live.add(word)
        if words[0] == "jset":
            self.members.add(word)

    def register(self, word, size):
        unit = word.encode() + b";"
        data = (unit * (size // len(unit) + 1))[:size]
        self.by_sha[hashlib.sha256(data).hexdigest()] = word

    def drop(self, old):
        if old.startswith("="):
            self.live.difference_update(WORDS.findall(old))
        elif old.startswith("@"):
            self.unread.append(old[1:])
        elif old == "?":
            self.unknown += 1

    def drop_unread(self):
        for etag in self.unread:
            sha = self.ledger.etags.get(etag)
            self.live.difference_update(WORDS.findall(self.by_sha.get(sha) or self.ledger.texts.get(sha) or ""))

    def operate(self):
        d = self.random.choice(self.devices)
        line, word = self.command()
        if line.startswith("write"):
            self.register(word, int(line.split(" ")[3]))
        if self.random.random() < 0.05:
            self.kill_while_writing(d)
        out = d(line)
        self.say(f"{d.name}: {line}: {out}")
        self.note(line, word, out)

    def kill_while_writing(self, d):
        """A new file is there as it was to be, or empty, or not at all."""
        self.words += 1
        word, path, size = f"w{self.words}", f"k{self.words}", self.random.choice(SIZES)
        self.register(word, size)
        self.say(f"{d.name}: write {path} {word} {size} ... killed")
        d.send(f"write {self.store}/{path} {word} {size}")
        time.sleep(self.random.random() * 0.003)
        d.kill()
        self.device_kills += 1
        d.start()
        there = d.tree().get(path)
        if there and there[2] not in ("-", word):
            raise Violation(f"{path} is {there} after a kill")
        if there and there[2] == word:
            self.live.add(word)

    # --- what happens to the line ---

    def disturb(self):
        d = self.random.choice(self.devices)
        what = self.random.choice(("faults", "faults", "next", "next", "partition", "heal", "heal", "kill", "server", "poke",
                                   "poke", "settle"))
        self.say(f"-- {what} {d.name}")
        if what == "faults":
            d.proxy.rules = [(f, 0.15) for f in self.random.sample(FAULTS, 3)]
        elif what == "next":
            d.proxy.wants = lambda request: request.mutates
            d.proxy.next_faults = [self.random.choice(FAULTS) for _ in range(self.random.randrange(1, 4))]
            d("poke")
        elif what == "partition":
            self.partitions += 1
            d.proxy.partition(self.random.choice(("refuse", "hole")))
        elif what == "heal":
            d.proxy.heal()
            d("poke")
        elif what == "kill":
            self.device_kills += 1
            d.kill()
            d.start()
        elif what == "server":
            self.server_kills += 1
            self.server.kill()
            time.sleep(self.random.random() * 0.02)
            self.server.start()
        elif what == "poke":
            d("poke")
        elif not d.proxy.cut and not d.proxy.rules:
            d("idle 1500")

    def collect(self):
        for d in self.devices:
            for e in d.take_seen():
                self.ledger.read(d.name, e)

    # --- the end ---

    def settle(self):
        end = time.monotonic() + SETTLE_S * self.patience
        for d in self.devices:
            d.proxy.heal()
        quiet = 0
        while quiet < 2:
            before = self.server_seq()
            idle = True
            for d in self.devices:
                d("poke")
                out = d("idle 3000")
                idle &= out.startswith("ok")
                status = d("status")
                if " held=1" in status or "held" in out:
                    d("allow")
                    idle = False
                self.collect()
            quiet = quiet + 1 if idle and before == self.server_seq() else 0
            if time.monotonic() > end:
                raise Violation("it does not settle: " + " | ".join(
                    f"{d.name} {d('status')} {d('counts')} {d('journal')}" for d in self.devices))

    def whole_tree(self, d):
        """With the contents that have to be fetched."""
        end = time.monotonic() + SETTLE_S * self.patience
        while True:
            tree = d.tree()
            if all(" " not in word or word[0] == "{" for _, _, word in tree.values()) or time.monotonic() > end:
                return tree
            d("poke")
            time.sleep(0.05)

    def server_seq(self):
        c = self.server.client(store=self.store)
        try:
            self.final, cursor = c.everything()
        finally:
            c.close()
        return int(cursor.split(".")[1])

    def json_text(self, record):
        c = self.server.client(store=self.store)
        try:
            text = c.get(record["id"]).body.decode()
            words = json.loads(text).values()
        except ValueError:
            return "UNKNOWN"
        finally:
            c.close()
        return text if all(w in self.members for w in words) else "UNKNOWN"

    def server_tree(self):
        out = {}
        for r in self.final.values():
            path, at, depth = r["name"], r["parent"], 0
            while at != "root":
                path, at, depth = f"{self.final[at]['name']}/{path}", self.final[at]["parent"], depth + 1
                if depth > 100:
                    raise Violation("the server's tree has a loop")
            word = "-"
            if r["kind"] == "file" and r["size"]:
                word = self.by_sha.get(r["sha256"]) or self.json_text(r)
            elif r["kind"] == "symlink":
                word = "over/there"
            out[path] = (r["kind"], "0" if r["kind"] == "symlink" else f"{r['mode']:o}", word)
        return out

    def compare(self, tree):
        for d in self.devices:
            mine = d.tree()
            end = time.monotonic() + AGREE_S * self.patience
            while mine != tree and time.monotonic() < end:  # entries that waited for a file that was open
                d("poke")
                time.sleep(0.1)
                mine = d.tree()
            if mine != tree:
                raise Violation(f"{d.name} has not the server's tree:\n    only here {sorted(set(mine.items()) - set(tree.items()))}"
                                f"\n    only there {sorted(set(tree.items()) - set(mine.items()))}")
            self.compare_versions(d)

    def compare_versions(self, d):
        """What is taken for the origin's version is: else the next edit is a conflict, and what was evicted is gone for good."""
        theirs = {rid: r["etag"] for rid, r in self.final.items()}
        mine, contents = d.versions()
        if mine != theirs or contents - set(theirs.values()):
            raise Violation(f"{d.name} takes {sorted(set(mine.items()) - set(theirs.items()))} for the server's "
                            f"{sorted(set(theirs.items()) - set(mine.items()))}, and has contents of {sorted(contents - set(theirs.values()))}")

    def check(self):
        seq = self.server_seq()
        self.collect()
        tree = self.server_tree()
        self.compare(tree)
        contents = {t[2] for t in tree.values()}
        if "TORN" in contents or "UNKNOWN" in contents:
            raise Violation(f"a content that nobody wrote: {tree}")
        words = {w for t in contents for w in WORDS.findall(t)}
        self.drop_unread()
        self.check_conflicts(tree)
        self.check_lost(self.live - words, tree)
        self.ledger.check(self.final, seq, self.server_kills > 0)
        for sha, word in self.by_sha.items():
            if word in words and word not in self.live and word not in self.linked and not self.server_kills:
                back = self.ledger.resurrected(sha, {d.name for d in self.devices if d.rule == "ours"})
                if back:
                    self.ledger.fault(f"{word} came back: {back}")
        if self.merged_only and not self.members_linked and (words & self.members) - self.live:
            self.ledger.fault(f"members came back: {(words & self.members) - self.live}; the tree is {tree}")
        if self.ledger.faults:
            raise Violation("; ".join(self.ledger.faults[:5]))

    def check_lost(self, lost, tree):
        let_go = self.outcomes.count("ours") + self.outcomes.count("theirs") + self.unknown
        if len(lost - self.members) > let_go or len(lost & self.members) > let_go * len(MEMBERS):
            raise Violation(f"lost: {sorted(lost)}, rules let {let_go} go; the tree is {tree}")

    @staticmethod
    def listed_copies(d):
        """A copy may be in two conflicts."""
        return sorted({p for kind, p in re.findall(r"\[(\S+) ([^|]*)", d.ok("conflicts"))
                       if kind != "delete-edit" and COPY.search(p.rsplit("/", 1)[-1])})

    def check_conflicts(self, tree):
        self.outcomes = [o for d in self.devices for o in re.findall(r"\|([a-z]+)\]", d.ok("settled"))]
        self.merged_only = set(self.outcomes) <= {"merged"}
        copies = sorted(f"{self.store}/{path}" for path in tree if COPY.search(path.rsplit("/", 1)[-1]))
        for d in self.devices:
            mine = self.listed_copies(d)
            if mine != copies:
                raise Violation(f"{d.name} ({d.rule}) lists {mine}, the copies are {copies}: {d.ok('settled')}")
        self.copies = bool(copies)
        if len(self.devices) > 1:
            return
        if self.outcomes:
            raise Violation(f"a device alone has conflicts: {self.outcomes}")
        if self.mine is not None and self.mine != tree:
            raise Violation(f"a device alone has not what its user made: {sorted(set(self.mine.items()) ^ set(tree.items()))}")

    def keep_both(self):
        """One device settles what all have."""
        d = self.random.choice(self.devices)
        d.ok("both")
        self.settle()
        seq, tree = self.server_seq(), self.server_tree()
        if any(COPY.search(path.rsplit("/", 1)[-1]) for path in tree):
            raise Violation(f"{d.name} kept both, and there are copies still: {tree}")
        self.compare(tree)
        for d in self.devices:
            if self.listed_copies(d):
                raise Violation(f"{d.name} lists {d.ok('conflicts')} after both were kept, the tree is {tree}")
        self.ledger.check(self.final, seq, self.server_kills > 0)

    def run(self):
        self.mine = None
        for d in self.devices:
            d.ok("listed 20000")
        if self.random.random() < 0.7:
            for name in ("x", "y"):
                self.devices[0].ok(f"mkdir {self.store}/{name}")
            if self.random.random() < 0.5:
                for d in self.devices:
                    d("idle 2000")
        calm = self.random.choice((0.1, 0.3, 0.5))
        while self.done < self.steps:
            if self.random.random() < calm:
                self.disturb()
            self.operate()
        if not self.partitions:
            self.devices[0].proxy.partition("refuse")
            self.partitions += 1
            self.operate()
        if not self.device_kills and not self.server_kills:
            self.devices[-1].kill()
            self.devices[-1].start()
            self.device_kills += 1
        for d in self.devices:
            d.proxy.heal()
        if len(self.devices) == 1:
            self.mine = self.whole_tree(self.devices[0])
        self.settle()
        self.check()
        if self.copies:
            self.keep_both()
        for d in self.devices:
            d.stop()

    def tell(self):
        """What went over the lines, for people."""
        for d in self.devices:
            for e in d.proxy.seen:
                r = e.request
                if r.mutates:
                    self.say(f"{d.name} {e.status} " + " ".join(
                        f"[{s} {o['op']} {o['id'][:6]} if {o['if_match']} "
                        f"{ {k: v for k, v in o.items() if k in ('parent', 'name', 'swap', 'replaces', 'mode', 'kind')} } -> "
                        f"{ {k: v for k, v in (a.get('problem', a).get('record', a)).items() if k in ('id', 'parent', 'name', 'etag', 'type')} }]"
                        for o, s, a in operations(e, asked(r))))
                elif "/changes" in r.target and e.body[:13] != b'{"changes":[]':
                    self.say(f"{d.name} feed {e.body.decode()[:3000]}")
            self.say(f"{d.name} conflicts {d('conflicts')} journal {d('journal')}")

    def close(self):
        if self.pauses:
            self.pauses.stop()
        for d in self.devices:
            if d.p.poll() is None:
                d.kill()
            d.proxy.stop()
            d.log.close()
        if self.server.process:
            self.server.kill()


# --- bugs that a campaign must find: what a careless client or server would do, done on the wire ---

def _each_op(request, change):
    if not request.mutates:
        return request
    copy = type(request)(request.method, request.target, list(request.headers), request.body)
    if request.target.endswith("/batch"):
        body = json.loads(request.body)
        for op in body["ops"]:
            change(op)
        copy.body = json.dumps(body).encode()
        return copy
    names = {"Idempotency-Key": "key", "If-Match": "if_match"}
    op = {names[k]: v for k, v in request.headers if k in names}
    change(op)
    copy.headers = [(k, op.get(names.get(k), v)) for k, v in request.headers]
    return copy


def _drop_if_match(op):
    if op.get("if_match"):
        op["if_match"] = "*"


def _forget_keys():
    """What is sent again has another key than the first time."""
    sent = set()

    def change(op):
        if op["key"] in sent:
            op["key"] = os.urandom(16).hex()
        sent.add(op["key"])
    return change


# name: (what it does, whether the model sees the request as it was changed). Never the missing precondition, which alone would betray
# the bug, but what comes of it; a key as it was changed, or, so that a few histories are enough, as the device made it.
PLANTS = {"if-match": (lambda: _drop_if_match, False), "key": (_forget_keys, True), "key-seen": (_forget_keys, False)}


def run_one(seed, devices, steps, tools, plant=None, verbose=False, slow=False):
    """(what was violated or None, the history)"""
    directory = tempfile.mkdtemp(prefix="cachet-model-")
    h = None
    try:
        (pathlib.Path(directory) / "server").mkdir()
        h = History(seed, devices, steps, directory, tools, plant, verbose, slow)
        h.run()
        return None, h
    except Violation as e:
        if verbose:
            h.tell()
        return str(e), h
    finally:
        if h:
            h.close()
        shutil.rmtree(directory, ignore_errors=True)
