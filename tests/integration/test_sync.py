"""sync/ against the reference server and against hostile ones, without a mount (tests/tools/sync_shell)."""
import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "model"))
from hostile import Hostile  # noqa: E402
from proxy import Proxy  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool(name):
    if "CACHET_TOOLS" in os.environ:
        return os.environ["CACHET_TOOLS"] + "/" + name
    found = sorted(ROOT.glob(f"build*/tests/tools/{name}"), key=lambda p: p.stat().st_mtime)
    assert found, f"{name} is not built"
    return str(found[-1])


class Shell:
    """One volume with its sync; a second one on the same directory goes on where the first ended."""

    def __init__(self, volume, url, token="t0ken", offline=False):
        self.log = open(str(volume) + ".err", "ab")
        self.p = subprocess.Popen([tool("sync_shell"), str(volume), url, token] + (["offline"] if offline else []),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1)
        self.ready = self.p.stdout.readline().strip()

    def __call__(self, line, fails=False):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        out = self.p.stdout.readline().strip()
        assert out, f"the shell died at {line!r}: " + pathlib.Path(self.log.name).read_text()[-2000:]
        if not fails:
            assert out.startswith("ok"), f"{line}: {out}"
        return out[2:].strip() if out.startswith("ok") else out

    def status(self):
        line = self("status")
        head, _, text = line.partition(" text=")
        return dict((k, int(v) if v.lstrip("-").isdigit() else v) for k, v in (p.split("=") for p in head.split())) | {"text": text}

    def counts(self):
        return dict((k, int(v)) for k, v in (p.split("=") for p in self("counts").split()))

    def until(self, what, seconds=15):
        end = time.time() + seconds
        while time.time() < end:
            if what(self.status()):
                return self.status()
            time.sleep(0.05)
        raise AssertionError(self.status())

    def stop(self):
        """The time it took, in ms. No sanitizer complains."""
        self.p.stdin.write("stop\n")
        self.p.stdin.flush()
        out = self.p.stdout.readline()
        assert out, f"the shell died while stopping: {self.p.wait(10)} " + pathlib.Path(self.log.name).read_text()[-3000:]
        ms = int(out.split()[1])
        assert self.p.wait(10) == 0
        self.log.close()
        text = pathlib.Path(self.log.name).read_text()
        assert "ERROR:" not in text and "runtime error" not in text, text[-3000:]
        return ms

    def kill(self):
        os.kill(self.p.pid, signal.SIGKILL)
        self.p.wait()


@pytest.fixture
def shell(tmp_path):
    shells = []

    def make(url, token="t0ken", name="volume", **more):
        s = Shell(tmp_path / name, url, token, **more)
        shells.append(s)
        assert s.ready == "ready", s.ready
        return s

    yield make
    for s in shells:
        if s.p.poll() is None:
            s.kill()


@pytest.fixture
def hostile():
    h = Hostile({"a": b"content of a", "b": b"content of b", "big": bytes(range(256)) * 40000})
    yield h
    h.close()


class Server:
    def __init__(self, directory):
        self.dir = str(directory)
        self.run("store", "add", "notes", self.dir)
        self.token = self.run("token", "add", "--account", "a", self.dir).strip()
        self.p = None
        self.port = 0
        self.start()

    @staticmethod
    def run(*args):
        return subprocess.run([tool("serve_main"), *args], check=True, capture_output=True, text=True).stdout

    def start(self, *more):
        port_file = self.dir + ".port"
        if os.path.exists(port_file):
            os.unlink(port_file)
        self.p = subprocess.Popen([tool("serve_main"), self.dir, "--listen", f"127.0.0.1:{self.port}", "--port-file", port_file,
                                   *more])
        for _ in range(200):
            if os.path.exists(port_file):
                break
            time.sleep(0.05)
        self.port = int(open(port_file).read())

    def stop(self, how=signal.SIGTERM):
        self.p.send_signal(how)
        self.p.wait(10)

    url = property(lambda self: f"http://127.0.0.1:{self.port}")


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path / "server")
    yield s
    if s.p.poll() is None:
        s.stop()


# --- the reference server ---


def test_two_volumes_see_each_others_changes(server, shell):
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    a("listed 60000")
    a("mkdir notes/d")
    a("put notes/d/x first")
    a("ln d/x notes/link")
    a("idle 60000")
    b("idle 60000")
    assert b("ls notes").split() == ["d/", "link@"] or b("ls notes").split() == ["link@", "d/"]
    assert b("text notes/d/x") == "first"
    assert b("readlink notes/link") == "d/x"
    b("put notes/d/x second")
    b("mv notes/d/x notes/y")
    b("rm notes/link")
    b("idle 60000")
    a("idle 60000")
    assert a("text notes/y") == "second"
    assert sorted(a("ls notes").split()) == ["d/", "y"]
    assert a.stop() < 2000 and b.stop() < 2000


def test_a_change_arrives_by_the_long_poll_without_being_asked_for(server, shell):
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    b("listed 60000")
    b.until(lambda s: s["live"])
    a("listed 60000")
    a("put notes/x hello")
    a("idle 60000")
    end = time.time() + 5
    while b("ls notes") != "x":
        assert time.time() < end
        time.sleep(0.05)


def test_offline_edits_survive_sigkill_and_are_sent_once(server, shell):
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    a("offline")
    a("mkdir notes/d")
    for i in range(50):
        a(f"put notes/d/f{i} content{i}")
    assert a.status()["state"] == "forced-offline"
    a.kill()
    a = shell(server.url, server.token, "a")
    a("idle 60000")
    assert a.counts() == {"queued": 0, "inflight": 0, "refused": 0, "held": 0}
    b = shell(server.url, server.token, "b")
    b("listed 60000")
    assert len(b("ls notes/d").split()) == 50
    assert b("text notes/d/f49") == "content49"


def test_replay_survives_sigkill_of_either_side(server, shell):
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    for round_ in range(6):
        a("offline")
        for i in range(300):
            a(f"put notes/r{round_}-{i} {round_}-{i}")
        a("online")
        time.sleep(0.02 + 0.03 * round_)
        if round_ % 2:
            server.stop(signal.SIGKILL)
            server.start()
        else:
            a.kill()
            a = shell(server.url, server.token, "a")
    a("poke")
    a("idle 30000")
    assert a("conflicts") == ""
    b = shell(server.url, server.token, "b")
    b("listed 60000")
    names = b("ls notes").split()
    assert len(names) == 1800 and len(set(names)) == 1800
    assert not [n for n in names if "conflict" in n]
    for n in names[::97]:
        assert b(f"text notes/{n}") == n[1:]


def make_two_batches(shell):
    shell("offline")
    for d in range(3):
        shell(f"mkdir notes/d{d}")
        for i in range(500):
            shell(f"put notes/d{d}/f{i} {d}-{i}")


def assert_two_batches(shell, more=0):
    shell("listed 60000")
    assert sorted(shell("ls notes").split()) == ["d0/", "d1/", "d2/"]
    assert [len(shell(f"ls notes/d{d}").split()) for d in range(3)] == [500, 500 + more, 500]
    assert [shell(f"text notes/d{d}/f{i}") for d in range(3) for i in (0, 499)] == \
        [f"{d}-{i}" for d in range(3) for i in (0, 499)]


def test_what_was_picked_behind_a_directory_that_could_not_be_made_is_sent_anew(server, shell):
    """d1 is another's by then: its content is in the next batch, or was picked for it, when the origin says so."""
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    a("listed 60000")
    make_two_batches(a)
    b("listed 60000")
    b("mkdir notes/d1")
    b("put notes/d1/theirs x")
    b("idle 60000")
    a("online")
    a("idle 60000")
    assert a.counts() == {"queued": 0, "inflight": 0, "refused": 0, "held": 0}
    assert_two_batches(shell(server.url, server.token, "c"), more=1)


def test_batches_under_way_survive_sigkill(server, shell):
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    make_two_batches(a)
    for round_ in range(4):
        a("online")
        time.sleep(0.05 * round_)
        a.kill()
        a = shell(server.url, server.token, "a")
    a("poke")
    a("idle 60000")
    assert a("conflicts") == ""
    assert_two_batches(shell(server.url, server.token, "b"))


def test_a_large_file_goes_up_and_comes_down_the_same(server, shell):
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    a("listed 60000")
    a("fill notes/big 50000000 7")
    want = a("cat notes/big").split()[:2]
    a("idle 60000")
    assert a.status()["sent"] >= 50000000
    b("idle 60000")
    assert b("cat notes/big").split()[:2] == want
    b.until(lambda s: s["fetched"] == 50000000)  # counted just behind the reader
    b("cat notes/big")
    assert b.status()["fetched"] == 50000000


def test_a_conflict_keeps_both_sides(server, shell):
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    a("listed 60000")
    a("put notes/x base")
    a("idle 60000")
    b("idle 60000")
    assert b("text notes/x") == "base"
    b("offline")
    b("put notes/x theirs")
    a("put notes/x ours")
    a("idle 60000")
    b("online")
    b("idle 60000")
    a("idle 60000")
    for s in (a, b):
        names = s("ls notes")
        assert names.count("conflict") == 1
        assert s("text notes/x") == "ours"
    assert "edit-edit" in b("conflicts")


def test_who_waits_for_quiet_waits_for_a_merge_that_the_line_put_off(server, shell, monkeypatch):
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    a('put notes/j.json {"a":"1"}')
    a("idle 60000")
    monkeypatch.setenv("CACHET_SHELL_MERGE", "merge")
    line = Proxy(server.port).start()
    b = shell(f"http://127.0.0.1:{line.port}", server.token, "b")
    b("listed 60000")
    assert b("text notes/j.json") == '{"a":"1"}'
    b("offline")
    b('put notes/j.json {"a":"1","b":"2"}')
    a('put notes/j.json {"a":"1","c":"3"}')
    a("idle 60000")
    line.wants = lambda request: "/get" in request.target or (request.method == "GET" and "/records/" in request.target)
    line.next_faults = ["drop"] * 1000
    b("online")
    b.until(lambda _: "conflict" in b("ls notes") and line.hits.get("drop", 0) > 2)
    line.heal()
    end = time.time() + 60
    while b("idle 60000", fails=True).startswith("-"):
        assert time.time() < end, (b.status(), b("journal"))
    assert b("ls notes") == "j.json"
    assert json.loads(b("text notes/j.json")) == {"a": "1", "b": "2", "c": "3"}
    line.stop()


class LateFeed(Proxy):
    """Holds the feed's requests back while `held`, and answers to changes for a while."""
    held = False

    def _draw(self, request):
        if "/changes" in request.target and self.held:
            return "hold"
        return "slow" if request.mutates and self.held else None

    async def _hold(self, request, writer):
        while self.held:
            await asyncio.sleep(0.01)
        return await self._pass(request, writer)


def test_who_waits_for_quiet_waits_for_what_waited_for_an_answer(server, shell):
    """The feed tells what another made of our change before the answer to ours is there."""
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    a("put notes/x base")
    a("idle 60000")
    line = LateFeed(server.port).start()
    line.random.random, line.slow_s = lambda: 1, 1.5
    b = shell(f"http://127.0.0.1:{line.port}", server.token, "b")
    b("idle 60000")
    line.held = True
    b("poke")
    b.until(lambda _: line.hits.get("hold"))
    b("put notes/x new")
    b("poke")
    a.until(lambda _: a("text notes/x") == "new")
    a("chmod notes/x 600")
    a("idle 60000")
    line.held = False
    b("idle 60000")
    assert b("tree notes").split("\t")[-2] == "600"
    line.stop()


def test_reads_fail_at_once_when_the_server_is_away_and_work_again(server, shell):
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    a("listed 60000")
    a("put notes/x hello")
    a("put notes/cached here")
    a("idle 60000")
    b("idle 60000")
    b("text notes/cached")
    server.stop()
    b.until(lambda s: s["state"] == "offline")
    began = time.time()
    assert "cannot be reached" in b("text notes/x", fails=True)
    assert time.time() - began < 1
    assert b("text notes/cached") == "here"
    b("put notes/new made-offline")
    server.start()
    b("poke")
    b.until(lambda s: s["state"] == "online")
    assert b("text notes/x") == "hello"
    b("idle 60000")
    a("idle 60000")
    assert a("text notes/new") == "made-offline"


def test_a_wrong_token_asks_once_and_a_right_one_goes_on(server, shell):
    a = shell(server.url, "wrong", "a")
    a.until(lambda s: s["state"] == "auth-needed")
    assert "refused the credentials" in a("listed 5000", fails=True)
    requests = a.status()["requests"]
    time.sleep(1.5)
    assert a.status()["requests"] <= requests + 1
    a("token " + server.token)
    a("listed 60000")
    a("put notes/x y")
    a("idle 60000")


def test_stop_is_quick_in_every_state(server, shell):
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    a("fill notes/big 100000000 3")
    time.sleep(0.3)
    assert a.stop() < 2000
    server.stop()
    a = shell(server.url, server.token, "a")
    assert a.stop() < 2000
    a = shell(server.url, server.token, "a", offline=True)
    assert a.stop() < 2000


def test_many_deletions_are_held_until_a_person_allows_them(server, shell):
    a, b = shell(server.url, server.token, "a"), shell(server.url, server.token, "b")
    a("listed 60000")
    a("mkdir notes/d")
    a("many notes/d 40 100")
    a("idle 60000")
    b("idle 60000")
    b("offline")
    for i in range(30):
        a(f"rm notes/d/f{i:05d}")
    assert "held" in a("idle 20000", fails=True)
    a("allow")
    a("idle 60000")
    b("online")
    b.until(lambda s: s["held"])
    assert len(b("ls notes/d").split()) == 40
    assert "held" in b("idle 5000", fails=True)
    b("allow")
    b("idle 60000")
    assert len(b("ls notes/d").split()) == 10


def test_an_old_copy_of_the_volume_sends_nothing(server, shell, tmp_path):
    a = shell(server.url, server.token, "a")
    a("listed 60000")
    a("put notes/x one")
    a("idle 60000")
    a.stop()
    subprocess.run(["cp", "-a", str(tmp_path / "a"), str(tmp_path / "old")], check=True)
    a = shell(server.url, server.token, "a")
    a("put notes/x two")
    a("put notes/y two")
    a("idle 60000")
    a.stop()
    subprocess.run(["rm", "-rf", str(tmp_path / "a")], check=True)
    os.rename(tmp_path / "old", tmp_path / "a")
    a = shell(server.url, server.token, "a")
    a.until(lambda s: s["rolledback"])
    assert "read-only" in a("put notes/z three", fails=True)
    a("idle 3000", fails=True)
    assert a.counts()["queued"] == 0
    a.until(lambda s: sorted(a("ls notes").split()) == ["x", "y"])


# --- hostile servers ---

ANYWHERE = ["error500", "login", "empty", "no_identity", "cut", "long_length", "short_length", "endless", "endless_error", "json",
            "json_array", "deep_json", "reset", "reset_midway", "garbage", "redirect", "wrong_instance", "big_header",
            "big_header_line"]
NAMES = ["name_slash", "name_dots", "name_nul", "name_utf8", "name_long"]
SLOW = ["drip", "drip_header", "silent"]


def settled(hostile, shell):
    """Listed, "a" read, an edit not sent yet."""
    hostile.elsewhere = "http://127.0.0.1:1/"
    s = shell(hostile.url)
    s("listed 60000")
    assert s("text notes/a") == "content of a"
    s.until(lambda st: st["live"])
    return s


def nothing_lost(s):
    assert sorted(s("ls notes").split()) == ["a", "b", "big"]
    assert s("text notes/a") == "content of a"


@pytest.mark.parametrize("how", ANYWHERE + NAMES + SLOW + ["empty_listing", "no_end", "problem500", "problem503"])
def test_a_bad_feed_is_an_error_and_removes_nothing(hostile, shell, how):
    s = settled(hostile, shell)
    hostile.misbehave("changes", how)
    s("poke")
    st = s.until(lambda st: st["error"] and st["state"] in ("offline", "degraded"), 40)
    assert st["text"]
    nothing_lost(s)
    s("put notes/a mine")
    assert s("text notes/a") == "mine"
    hostile.behave()
    end = time.time() + 30
    while True:
        s("poke")
        if not s("idle 3000", fails=True).startswith("-"):
            break
        assert time.time() < end, s.status()
    hostile.change("c", b"new")
    s("idle 60000")
    assert sorted(s("ls notes").split()) == ["a", "b", "big", "c"]
    assert hostile.contents[hostile.applied[-1][0]] == b"mine"
    assert len(hostile.applied) <= 2  # the truncation may have gone ahead of the content
    assert s.stop() < 2000


@pytest.mark.parametrize("how", ANYWHERE + ["silent", "problem500"])
def test_a_bad_first_contact_leaves_an_empty_volume_that_heals(hostile, shell, how):
    hostile.elsewhere = "http://127.0.0.1:1/"
    hostile.misbehave("caps", how)
    s = shell(hostile.url)
    st = s.until(lambda st: st["error"], 40)
    assert st["state"] == "offline" and st["text"]
    began = time.time()
    s("listed 5000", fails=True)
    assert time.time() - began < 1
    hostile.behave()
    s("poke")
    s.until(lambda st: st["state"] == "online")
    s("listed 60000")
    nothing_lost(s)
    assert s.stop() < 2000


@pytest.mark.parametrize("how", ["error500", "login", "empty", "cut", "long_length", "endless", "reset", "reset_midway", "redirect",
                                 "wrong_instance", "big_header", "other_etag", "other_range", "whole", "too_much", "drip", "silent",
                                 "problem500", "no_identity"])
def test_bad_content_is_never_served_and_never_waited_for_in_vain(hostile, shell, how):
    s = settled(hostile, shell)
    hostile.misbehave("get", how)
    began = time.time()
    out = s("text notes/b", fails=True)
    assert out.startswith("-"), out
    assert time.time() - began < 35
    out = s("cat notes/big", fails=True)
    assert out.startswith("-"), out
    nothing_lost(s)
    hostile.behave()
    time.sleep(0.2)
    s("poke")
    s.until(lambda st: st["state"] == "online")
    assert s("text notes/b") == "content of b"
    assert s("cat notes/big").startswith("10240000 ")
    assert s.stop() < 2000


@pytest.mark.parametrize("endpoint", ["put", "batch"])
@pytest.mark.parametrize("how", ["error500", "login", "empty", "cut", "endless", "json", "reset", "redirect", "wrong_instance",
                                 "problem500", "problem503", "lost_answer", "silent"])
def test_an_edit_is_kept_until_it_is_confirmed_and_applied_once(hostile, shell, endpoint, how):
    s = settled(hostile, shell)
    hostile.misbehave("batch put" if endpoint == "batch" else endpoint, how)  # what fails in a batch may be tried alone
    if endpoint == "batch":
        s("offline")
        s("put notes/b mine-too")
    s("put notes/a mine")
    s("online")
    time.sleep(1.2 if how != "silent" else 2)
    counts = s.counts()
    assert counts["queued"] + counts["inflight"] >= 1 and counts["refused"] == 0
    assert s("text notes/a") == "mine"
    hostile.behave()
    if how == "silent":  # the answer may take its minute: the link is cut by hand
        s("offline")
        s("online")
    end = time.time() + 30
    while s("idle 3000", fails=True).startswith("-"):
        assert time.time() < end, (s.status(), s("journal"))
    assert s.counts() == {"queued": 0, "inflight": 0, "refused": 0, "held": 0}
    assert len(hostile.applied) == (2 if endpoint == "batch" else 1)
    assert s.stop() < 2000


def asks_nothing(hostile, s, seconds):
    time.sleep(0.3)  # what was under way when the answer came
    seen = len(hostile.seen)
    s("put notes/b more")
    assert s(f"idle {int(seconds * 1000)}", fails=True).startswith("-")
    assert hostile.seen[seen:] == []


def goes_on_when_a_person_asks(hostile, s):
    hostile.behave()
    s("poke")
    s("idle 60000")
    assert {hostile.contents[rid] for rid, _ in hostile.applied} >= {b"mine", b"more"}


def test_after_too_many_nothing_at_all_is_asked_before_its_time(hostile, shell):
    s = settled(hostile, shell)
    hostile.misbehave("batch put", "too_many")
    s("put notes/a mine")
    s.until(lambda st: st["state"] == "degraded")
    asks_nothing(hostile, s, 1.5)  # the feed, whose poll was answered, among them
    goes_on_when_a_person_asks(hostile, s)


def test_an_origin_that_is_found_again_is_not_probed_before_its_time(hostile, shell, monkeypatch):
    monkeypatch.setenv("CACHET_SHELL_PROBE_MS", "200")
    s = settled(hostile, shell)
    hostile.misbehave("caps changes batch put", "reset")
    s("put notes/a mine")
    s.until(lambda st: st["state"] == "offline")
    hostile.misbehave("caps", "too_many")
    s.until(lambda st: "busy" in st["text"])
    asks_nothing(hostile, s, 1)
    goes_on_when_a_person_asks(hostile, s)


def test_batches_stay_below_what_the_server_takes_in_a_request(hostile, shell):
    """By what they are on the wire: names of control characters are six times as long there."""
    hostile.max_request = 30000
    s = settled(hostile, shell)
    s("offline")
    for i in range(60):
        s("put notes/" + "\x01" * 252 + f"{i} " + "x" * (i * 30 + 1))
    s("online")
    s("idle 60000")
    assert sum(r["name"].startswith("\x01") for r in hostile.records.values()) == 60
    lengths = [int(h["content-length"]) for m, target, h in hostile.seen if target.endswith("/batch")]
    assert len(lengths) > 4 and max(lengths) <= 30000, lengths


def test_a_redirect_never_takes_the_token_along(hostile, shell):
    elsewhere = Hostile()
    s = settled(hostile, shell)
    hostile.elsewhere = elsewhere.url + "/v1/stores"
    hostile.misbehave("changes", "redirect")
    s("poke")
    s.until(lambda st: st["error"])
    hostile.misbehave("get", "redirect")
    assert s("cat notes/big", fails=True).startswith("-")
    hostile.misbehave("put", "redirect")
    s("put notes/a mine")
    end = time.time() + 20
    while "PUT" not in [m for m, _, _ in hostile.seen]:
        assert time.time() < end
        s("poke")
        time.sleep(0.2)
    counts = s.counts()
    # Two when the making of the file was already on its way as it was written.
    assert counts["queued"] + counts["inflight"] in (1, 2) and not counts["refused"]
    assert elsewhere.seen == []
    elsewhere.close()


@pytest.mark.parametrize("what", ["instance", "epoch"])
def test_a_restored_server_stops_everything_until_it_is_accepted(hostile, shell, what):
    s = settled(hostile, shell)
    setattr(hostile, what, "99" * 16)
    hostile.misbehave("changes", "reset")
    s("put notes/a mine")
    s.until(lambda st: st["restored"])
    hostile.behave()
    sent = len(hostile.applied)
    s("put notes/b mine")
    s("poke")
    time.sleep(0.7)
    assert s.status()["state"] == "offline" and "restored" in s.status()["text"]
    assert sorted(s("ls notes").split()) == ["a", "b", "big"]
    assert len(hostile.applied) == sent
    s("accept")
    s("poke")
    end = time.time() + 20
    while s("idle 3000", fails=True).startswith("-"):
        assert time.time() < end, s.status()
    assert s.status()["restored"] == 0
    assert len(hostile.applied) == 2
    assert s.stop() < 2000


def test_the_old_server_coming_back_is_welcome(hostile, shell):
    s = settled(hostile, shell)
    hostile.instance = "99" * 16
    hostile.misbehave("changes", "reset")
    s.until(lambda st: st["restored"])
    hostile.behave()
    hostile.instance = "ab" * 16
    s("poke")
    s.until(lambda st: st["state"] == "online" and not st["restored"])
    s("idle 60000")


def test_a_server_that_went_back_without_a_word_stops_everything_until_it_is_accepted(server, shell, tmp_path):
    s = shell(server.url, server.token, "a")
    s("listed 60000")
    s("put notes/a one")
    s("idle 60000")
    server.stop()
    shutil.copytree(server.dir, tmp_path / "older")
    server.start()
    s("poke")
    s.until(lambda st: st["state"] == "online")
    s("put notes/b two")
    s("idle 60000")
    server.stop()
    shutil.rmtree(server.dir)
    shutil.move(tmp_path / "older", server.dir)
    server.start()
    s("poke")
    s.until(lambda st: st["restored"])
    s("put notes/c three")
    s("poke")
    assert sorted(s("ls notes").split()) == ["a", "b", "c"]
    assert s.status()["state"] == "offline" and "restored" in s.status()["text"]
    s("accept")
    s("poke")
    s.until(lambda st: st["state"] == "online" and not st["restored"])
    s("idle 60000")
    assert "c" in s("ls notes").split()


def test_origins_that_would_betray_the_token_are_refused(shell, tmp_path):
    for url in ("http://example.org", "http://user:pw@127.0.0.1:1", "ftp://127.0.0.1", "http://127.0.0.1.example.org:80",
                "https://", "nonsense", "http://127.0.0.1:1?x=1"):
        p = subprocess.run([tool("sync_shell"), str(tmp_path / "v"), url, "t"], input="stop\n", capture_output=True, text=True)
        assert p.returncode == 1 and p.stdout.startswith("failed"), url
        assert p.stderr.strip(), url
