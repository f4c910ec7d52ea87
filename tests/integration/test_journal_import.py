"""Unsent changes carried to another machine of the user: made there, once, whatever the first machine does later."""
import json
import os

from conftest import wait_for
from test_conflicts import tree


def export(c, path):
    out = c.run("journal", "export", "-o", str(path), "--json").stdout
    key = path.with_suffix(".key")
    key.write_text(json.loads(out)["encryption_key"])
    key.chmod(0o600)
    return key


def take(c, path, key, code=0):
    r = c.run("journal", "import", "--json", "-k", str(key), str(path), check=False)
    assert r.returncode == code, (r.stdout, r.stderr)
    return json.loads(r.stdout)


def pair(server, make_client):
    a, b = make_client("a").mount(), make_client("b").mount()
    (a.mnt / "d").mkdir()
    for n in ("edited", "gone", "moved", "modes", "clash"):
        (a.mnt / n).write_bytes(b"base of " + n.encode())
    a.sync()
    b.sync()
    wait_for(lambda: tree(a) == tree(b))
    a.run("offline")
    return a, b


def work(a):
    (a.mnt / "edited").write_bytes(b"offline work")
    (a.mnt / "new dir").mkdir()
    (a.mnt / "new dir" / "new.txt").write_bytes(b"made offline")
    os.symlink("edited", a.mnt / "link")
    os.unlink(a.mnt / "gone")
    os.rename(a.mnt / "moved", a.mnt / "d" / "moved")
    os.chmod(a.mnt / "modes", 0o600)
    return {"edited": b"offline work", "new dir/": None, "new dir/new.txt": b"made offline", "link": b"offline work",
            "d/": None, "d/moved": b"base of moved", "modes": b"base of modes", "clash": b"base of clash"}


def test_another_machine_sends_them(server, make_client, home):
    a, b = pair(server, make_client)
    want = work(a)
    key = export(a, home / "j")
    got = take(b, home / "j", key)
    assert (got["made"], got["beside"], got["left"]) == (7, 0, 0)
    again = take(b, home / "j", key)
    assert (again["made"], again["beside"]) == (0, 0)
    assert tree(b) == want
    assert (b.mnt / "modes").stat().st_mode & 0o777 == 0o600
    b.sync()
    a.run("online")
    a.sync()
    b.sync()
    wait_for(lambda: tree(a) == tree(b) == want)
    assert a.status()["pending"] == b.status()["pending"] == 0


def test_the_first_machine_may_be_faster(server, make_client, home):
    a, b = pair(server, make_client)
    want = work(a)
    key = export(a, home / "j")
    a.run("online")
    a.sync()
    wait_for(lambda: tree(b) == want)
    got = take(b, home / "j", key)
    assert (got["there"], got["made"], got["beside"], got["left"]) == (7, 0, 0, 0)
    b.sync()
    assert tree(a) == tree(b) == want


def test_another_version_is_not_overwritten(server, make_client, home):
    a, b = pair(server, make_client)
    (a.mnt / "clash").write_bytes(b"of a")
    os.unlink(a.mnt / "gone")
    key = export(a, home / "j")
    (b.mnt / "clash").write_bytes(b"of b")
    b.sync()
    b.run("offline")
    (b.mnt / "gone").write_bytes(b"edited, unsent")
    got = take(b, home / "j", key, 9)
    assert (got["made"], got["beside"], got["left"]) == (0, 1, 1)
    have = tree(b)
    assert have["clash"] == b"of b" and have["clash (imported)"] == b"of a" and have["gone"] == b"edited, unsent"
    assert take(b, home / "j", key, 9)["beside"] == 0


def test_a_bundle_that_was_changed_makes_nothing(server, make_client, home):
    a, b = pair(server, make_client)
    work(a)
    key = export(a, home / "j")
    before = tree(b)
    bundle = json.loads((home / "j").read_text())
    for spoil in (lambda e: e[-1]["meta"].update(id="0" * 32), lambda e: e[-1]["enc"].update(ct=e[0]["enc"]["ct"])):
        e = json.loads(json.dumps(bundle))
        spoil(e)
        (home / "bad").write_text(json.dumps(e))
        assert b.run("journal", "import", "-k", str(key), str(home / "bad"), check=False).returncode == 6
        assert tree(b) == before
