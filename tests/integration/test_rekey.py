"""`cachet rekey`: new keys inside, the old ones gone, everything readable all the time and after a kill at any step.
What the old keys open afterwards (nothing) is tested by tests/unit/test_rekey.c."""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading

import pytest

from cli_fixtures import edit_config, on_terminal
from conftest import BIN, ROOT, Client

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")
needs_failpoints = pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")


@pytest.fixture
def client(home, server):
    c = Client(home, server)
    yield c
    c.close()


def keyring(client):
    return json.loads((client.volume / "keyring.json").read_text())


def epochs(client):
    """(purpose, store) -> the epochs in the keyring."""
    found = {}
    for e in keyring(client)["entries"]:
        found.setdefault((e["purpose"], e["store"]), []).append(e["epoch"])
    return found


def fill(mnt, rng):
    """Files of all sizes; path -> content."""
    (mnt / "dir").mkdir(exist_ok=True)
    content = {f"dir/small{i}": rng.randbytes(rng.randrange(1, 9000)) for i in range(25)}
    content["large"] = rng.randbytes(3_000_000)
    content["empty"] = b""
    for name, data in content.items():
        (mnt / name).write_bytes(data)
    return content


def check(mnt, content):
    assert not [name for name, data in content.items() if (mnt / name).read_bytes() != data]


def rekeyed(client, *args):
    return json.loads(client.run("rekey", "--json", *args).stdout)


def test_mounted_it_leaves_one_epoch_and_all_content(client, server):
    rng = random.Random(1)
    client.mount()
    content = fill(client.mnt, rng)
    client.sync()
    etags = {r["id"]: r["etag"] for r in server.records("notes").values()}
    client.run("offline")
    (client.mnt / "unsent").write_bytes(b"not sent")
    content["unsent"] = b"not sent"
    with open(client.mnt / "large", "rb") as f:
        j = rekeyed(client, "--wait")
        assert f.read() == content["large"]
    assert not j["active"] and j["epoch"] == 2 and not j["error"]
    assert set(map(tuple, epochs(client).values())) == {(2,)}
    check(client.mnt, content)
    assert client.status()["pending"] == 1
    client.umount()
    client.mount()
    check(client.mnt, content)
    client.sync()
    assert server.read("notes", "unsent") == b"not sent"
    now = {r["id"]: r["etag"] for r in server.records("notes").values()}
    assert all(now[rid] == etag for rid, etag in etags.items()), "content was sent again"


def test_unmounted_it_is_done_when_the_command_ends(client):
    client.mount()
    content = fill(client.mnt, random.Random(2))
    client.sync()
    client.umount()
    assert not rekeyed(client)["active"]
    assert set(map(tuple, epochs(client).values())) == {(2,)}
    j = rekeyed(client, "--status")
    assert j["epoch"] == 2 and not j["active"]
    client.mount()
    check(client.mnt, content)
    client.umount()
    kinds = [(e["kind"], json.loads(e["detail"])["result"]) for e in json.loads(client.run("events", "--json", "--verify").stdout)["events"]
             if e["kind"] == "rekey"]
    assert kinds == [("rekey", "begun"), ("rekey", "done")]


@pytest.mark.parametrize("verb", [("rekey",), ("rotate", "--rekey")], ids=["rekey", "rotate"])
def test_on_a_terminal_the_unmounted_one_shows_how_far_it_is(home, server, verb):
    c = Client(home, server, key="server")
    try:
        c.mount("--offline")
        (c.mnt / "f").write_bytes(os.urandom(24 << 20))
        c.umount()
        code, shown = on_terminal([str(c.binary), *verb], c.env, [], 60)
        assert code == 0, shown
        bars = re.findall(r"\r\[(#* *)\] (\S+) MiB ", shown)
        assert bars and bars[-1] == ("#" * 30, "24.0"), shown
        assert not rekeyed(c, "--status")["active"] and set(map(tuple, epochs(c).values())) == {(2,)}
    finally:
        c.close()


def test_programs_write_and_read_through_it(client):
    client.mount()
    content = fill(client.mnt, random.Random(3))
    stop, failed, rounds = threading.Event(), [], [0]

    def work():
        rng = random.Random(4)
        while not stop.is_set():
            name = rng.choice(sorted(content))
            data = rng.randbytes(rng.randrange(1, 200_000))
            (client.mnt / name).write_bytes(data)
            content[name] = data
            if (client.mnt / name).read_bytes() != data:
                failed.append(name)
            rounds[0] += 1

    t = threading.Thread(target=work)
    t.start()
    try:
        for _ in range(3):
            assert not rekeyed(client, "--wait")["active"]
    finally:
        stop.set()
        t.join()
    assert not failed and rounds[0]
    check(client.mnt, content)
    client.umount()
    client.mount()
    check(client.mnt, content)
    assert set(map(tuple, epochs(client).values())) == {(4,)}


def test_a_wrong_age_in_the_configuration_is_refused(client):
    edit_config(client, rekey_days=36501)
    r = client.run("mount", str(client.mnt), check=False)
    assert r.returncode == 2 and "rekey_days" in r.stderr


# --- age ---

LIBRARY = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
needs_faketime = pytest.mark.skipif(not LIBRARY, reason="libfaketime is not there")


def at(client, days):
    """The program under a clock that is so many days ahead, or behind."""
    moved = client.home / f"at{days}"
    moved.write_text(f'#!/bin/sh\nexport LD_PRELOAD={LIBRARY} FAKETIME="{days:+}d" FAKETIME_DONT_FAKE_MONOTONIC=1\n'
                     f'exec {BIN} "$@"\n')
    moved.chmod(0o700)
    client.binary = moved


@needs_faketime
def test_under_a_clock_set_back_last_rotated_at_does_not_go_back(client):
    before = rekeyed(client, "--status")["last_rotated_at"]
    at(client, -400)
    j = rekeyed(client)
    assert j["epoch"] == 2 and j["last_rotated_at"] >= before


# --- kills ---

def steps():
    """What only a rekey passes, and where a commit of content can be cut."""
    found = {"blob-write", "blob-fdatasync", "db-commit", "db-checkpoint", "index-redo-sync", "unsent-publish"}
    for folder in ("meta", "cache"):
        for source in (ROOT / folder).glob("*.c"):
            found |= set(re.findall(r'FAILPOINT\("(rekey-[a-z-]+)"\)', source.read_text()))
    assert len(found) > 12
    return sorted(found)


def die(client, rule, *args):
    """Runs the verb until it dies there; whether it did."""
    env = {**client.env, "CACHET_FAILPOINTS": rule}
    r = subprocess.run([FAILPOINTS_BIN, *args], env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
    return r.returncode == -signal.SIGKILL


@needs_failpoints
def test_killed_at_every_step_it_goes_on_and_loses_nothing(client):
    client.mount()
    content = fill(client.mnt, random.Random(5))
    client.sync()
    client.run("offline")
    (client.mnt / "unsent").write_bytes(b"not sent")
    content["unsent"] = b"not sent"
    client.umount()
    died = set()
    for step in steps():
        if die(client, f"{step}=1:kill", "rekey"):
            died.add(step)
        client.mount("--offline")
        check(client.mnt, content)
        client.umount()
        assert not rekeyed(client)["active"], step
        assert {len(e) for e in epochs(client).values()} == {1}, step
    assert not {s for s in steps() if s.startswith("rekey-")} - died, "a step was not reached"
    client.mount()
    client.sync()
    check(client.mnt, content)


@needs_failpoints
@pytest.mark.parametrize("step", ["rekey-commit=9:kill", "rekey-index-copy=1:kill", "rekey-index-renamed=1:kill", "rekey-retire=1:kill"])
def test_the_index_lost_in_the_middle_costs_no_unsent_work(client, server, step):
    client.mount("--offline")
    content = fill(client.mnt, random.Random(6))
    client.umount()
    assert die(client, step, "rekey")
    for f in client.volume.glob("index.*"):
        f.unlink()
    client.mount()
    check(client.mnt, content)
    assert client.status()["index_lost"]
    client.sync()
    assert server.read("notes", "large") == content["large"]
    assert not rekeyed(client, "--wait", "--force")["active"]
    check(client.mnt, content)


@needs_failpoints
def test_rotated_in_the_middle_it_goes_on(home, server):
    c = Client(home, server, key="server")
    try:
        c.mount("--offline")
        content = fill(c.mnt, random.Random(7))
        c.umount()
        assert die(c, "rekey-commit=5:kill", "rekey")
        kid = keyring(c)["kid"]
        c.run("rotate")
        assert keyring(c)["kid"] != kid
        assert {e["kid"] for e in keyring(c)["entries"]} == {keyring(c)["kid"]}
        assert not rekeyed(c)["active"]
        c.mount("--offline")
        check(c.mnt, content)
    finally:
        c.close()
