"""The brake of deletions: many at once wait for a person, in either direction, and hold up nothing else."""
import json
import os

from conftest import wait_for


def fill(server, make_client, n=40, name="client"):
    c = make_client(name).mount()
    (c.mnt / "d").mkdir()
    for i in range(n):
        (c.mnt / "d" / f"f{i:02}").write_bytes(b"%d" % i)
    c.sync()
    return c


def journal(c):
    return json.loads(c.run("journal", "--json").stdout)["operations"]


def names(server):
    return sorted(p for p in server.records("notes") if p.startswith("d/"))


def held(c):
    r = c.run("sync", "--wait", "--timeout", "60", check=False)
    assert r.returncode == 9, (r.returncode, r.stdout, r.stderr)


def test_many_deletions_wait_for_a_person_and_the_rest_goes_on(server, make_client):
    c = fill(server, make_client)
    c.run("offline")
    for i in range(12):
        os.unlink(c.mnt / "d" / f"f{i:02}")
    (c.mnt / "d" / "new").write_bytes(b"goes on")
    (c.mnt / "d" / "f39").write_bytes(b"goes on")
    (c.mnt / "d" / "f00").write_bytes(b"waits for its name")
    c.run("online")
    held(c)
    assert {o["held_by"] for o in journal(c) if o["state"] == "held"} == {"brake"}
    assert c.status()["deletes_held"]
    assert len(names(server)) == 41
    assert server.read("notes", "d/new") == server.read("notes", "d/f39") == b"goes on"
    assert server.read("notes", "d/f00") == b"0"
    c.run("sync", "--allow-deletes")
    c.sync()
    assert names(server) == sorted([f"d/f{i:02}" for i in range(12, 40)] + ["d/new", "d/f00"])
    assert server.read("notes", "d/f00") == b"waits for its name"
    assert not c.status()["deletes_held"]


def test_few_deletions_and_small_shares_pass(server, make_client):
    c = fill(server, make_client, 60)
    for step in (10, 11):  # ten of any number; eleven of fifty and a bit are 22 %
        c.run("offline")
        for name in sorted(os.listdir(c.mnt / "d"))[:step]:
            os.unlink(c.mnt / "d" / name)
        c.run("online")
        if step == 10:
            c.sync()
    held(c)
    assert len(names(server)) == 50


def test_what_was_made_and_deleted_does_not_count(server, make_client):
    c = fill(server, make_client, 12)
    c.run("offline")
    for i in range(50):
        (c.mnt / f"t{i}").write_bytes(b"x")
        os.unlink(c.mnt / f"t{i}")
    os.unlink(c.mnt / "d" / "f00")
    c.run("online")
    c.sync()
    assert len(names(server)) == 11


def test_the_word_may_come_before_the_brake(server, make_client):
    c = fill(server, make_client)
    c.run("offline")
    for i in range(20):
        os.unlink(c.mnt / "d" / f"f{i:02}")
    c.run("sync", "--allow-deletes", check=False)
    c.run("online")
    c.sync()
    assert len(names(server)) == 20


def test_what_a_person_holds_is_not_let_go(server, make_client):
    c = fill(server, make_client)
    c.run("offline")
    (c.mnt / "mine").write_bytes(b"x")
    c.run("journal", "hold", str(journal(c)[0]["seq"]))
    for i in range(20):
        os.unlink(c.mnt / "d" / f"f{i:02}")
    c.run("online")
    held(c)
    c.run("sync", "--allow-deletes")
    held(c)
    assert [(o["path"], o["held_by"]) for o in journal(c)] == [("mine", "person")]
    assert len(names(server)) == 20


def test_the_brake_holds_after_a_kill(server, make_client):
    c = fill(server, make_client)
    c.run("offline")
    for i in range(20):
        os.unlink(c.mnt / "d" / f"f{i:02}")
    c.run("online")
    held(c)
    c.sigkill()
    c.close()
    c.mount()
    assert c.status()["deletes_held"]
    held(c)
    assert len(names(server)) == 40
    one = journal(c)[0]
    c.run("journal", "retry", str(one["seq"]))
    wait_for(lambda: len(names(server)) == 39)
    c.run("sync", "--allow-deletes")
    c.sync()
    assert len(names(server)) == 20


def test_deletions_of_the_origin_are_allowed_once(server, make_client):
    """In two directions and over several pages: one word of a person is enough."""
    a = fill(server, make_client, name="a")
    b = make_client("b").mount()
    b.sync()
    for i in range(30):
        os.unlink(a.mnt / "d" / f"f{i:02}")
    held(a)
    a.run("sync", "--allow-deletes")
    a.sync()
    wait_for(lambda: b.status()["deletes_held"])
    assert len(os.listdir(b.mnt / "d")) == 40
    b.run("sync", "--allow-deletes")
    b.sync()
    assert len(os.listdir(b.mnt / "d")) == 10
