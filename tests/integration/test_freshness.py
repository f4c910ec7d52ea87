"""How old what is served may be: rules by store, what is known of a file, programs that must not download."""
import errno
import json
import os
import shutil
import subprocess
import time

import pytest
from cli_fixtures import edit_config, fails
from conftest import wait_for


def xattr(path, name):
    return os.getxattr(path, "user.cachet." + name).decode()


def error_of(what):
    with pytest.raises(OSError) as e:
        what()
    return e.value.errno


def test_xattrs_say_what_is_known_and_are_not_listed_or_writable(client, server):
    server.write("notes", "f", b"one")
    f = client.mnt / "f"
    wait_for(f.exists)
    assert xattr(f, "state") == "none"
    f.read_bytes()
    record = server.records("notes")["f"]
    assert [xattr(f, n) for n in ("state", "version", "pinned", "pending", "expires")] == [
        "full", record["etag"], "no", "0", "never"]
    assert abs(time.mktime(time.strptime(xattr(f, "validated"), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - time.time()) < 60
    assert xattr(client.mnt, "state") == "listed"
    assert os.listxattr(f) == []
    assert error_of(lambda: os.setxattr(f, "user.cachet.state", b"x")) == errno.EPERM
    assert error_of(lambda: os.removexattr(f, "user.cachet.state")) == errno.EPERM
    assert error_of(lambda: os.getxattr(f, "user.cachet.nothing")) == errno.ENODATA
    client.run("pin", str(f))
    client.run("offline")
    f.write_bytes(b"two")
    assert (xattr(f, "pinned"), xattr(f, "pending")) == ("yes", "1")
    stat = json.loads(client.run("stat", "--json", str(f)).stdout)
    assert (stat["pinned"], stat["pending"], stat["etag"]) == (True, 1, record["etag"])


def test_beyond_max_stale_nothing_is_opened_until_the_origin_answers(server, make_client):
    server.write("notes", "f", b"content")
    c = make_client().mount()
    wait_for(lambda: (c.mnt / "f").exists() and (c.mnt / "f").read_bytes() == b"content")
    c.umount()
    server.stop()
    c.mount("--max-stale", "1")
    wait_for(lambda: stale(c.mnt / "f"))
    assert os.listdir(c.mnt) == ["f"] and (c.mnt / "f").stat().st_size == 7
    assert xattr(c.mnt / "f", "expires") != "never"
    server.start()
    c.run("online")
    wait_for(lambda: not stale(c.mnt / "f"))
    c.umount()
    server.stop()
    c.mount()  # without the bound it is served, however old
    assert (c.mnt / "f").read_bytes() == b"content"


def stale(path):
    try:
        return path.read_bytes() is None
    except OSError as e:
        assert e.errno == errno.EHOSTUNREACH
        return True


def test_a_bound_that_is_not_reached_serves_offline(server, make_client):
    server.write("notes", "f", b"content")
    c = make_client().mount("--max-stale", "1d")
    wait_for(lambda: (c.mnt / "f").exists() and (c.mnt / "f").read_bytes() == b"content")
    c.run("offline")
    assert (c.mnt / "f").read_bytes() == b"content"


def test_strict_sees_each_version_at_once_and_nothing_offline(server, make_client):
    server.write("notes", "f", b"0")
    c = make_client()
    edit_config(c, freshness="notes: strict")
    c.mount()
    wait_for((c.mnt / "f").exists)
    for i in range(10):
        server.write("notes", "f", b"%d" % i)
        assert (c.mnt / "f").read_bytes() == b"%d" % i
    c.run("offline")
    assert error_of((c.mnt / "f").read_bytes) == errno.EHOSTUNREACH
    (c.mnt / "new").write_bytes(b"local")  # what the origin does not have is not asked for
    assert (c.mnt / "new").read_bytes() == b"local"


def test_fresh_within_max_age_asks_for_nothing(server, make_client):
    server.write("notes", "f", b"content")
    c = make_client()
    edit_config(c, freshness="notes: strict, max-age=1h")
    c.mount()
    wait_for(lambda: (c.mnt / "f").exists() and (c.mnt / "f").read_bytes() == b"content")
    c.run("offline")
    assert (c.mnt / "f").read_bytes() == b"content"


@pytest.mark.parametrize("rules", ["notes", "notes: loose", "notes: max-age=x", ": strict", "notes: max-stale=0s"])
def test_a_rule_that_makes_no_sense_is_named(make_client, rules):
    c = make_client()
    edit_config(c, freshness=rules)
    assert "freshness rule" in fails(c, 2, "mount", str(c.mnt))


def test_a_program_that_must_not_download_gets_only_what_is_here(server, make_client, home):
    server.write("notes", "here", b"here")
    server.write("notes", "there", b"there")
    c = make_client()
    edit_config(c, no_download="tumblerd, a-very-long-indexer-name")
    c.mount()
    wait_for(lambda: (c.mnt / "there").exists())
    assert (c.mnt / "here").read_bytes() == b"here"
    for name in ("tumblerd", "a-very-long-indexer-name"):
        program = home / name
        shutil.copy("/bin/cat", program)
        run = [subprocess.run([str(program), str(c.mnt / f)], capture_output=True) for f in ("here", "there")]
        assert run[0].stdout == b"here"
        assert run[1].returncode != 0 and b"No route to host" in run[1].stderr, run[1]
    assert json.loads(c.run("stat", "--json", str(c.mnt / "there")).stdout)["state"] == "none"
    assert subprocess.run(["cat", str(c.mnt / "there")], capture_output=True, check=True).stdout == b"there"


def test_a_program_that_must_not_download_is_not_read_ahead_for(server, make_client, home):
    mib = 1 << 20
    server.write("notes", "big", os.urandom(mib) * 64)
    c = make_client()
    edit_config(c, no_download="tumblerd")
    c.mount()
    wait_for(lambda: (c.mnt / "big").exists())
    program = home / "tumblerd"
    shutil.copy("/bin/cat", program)
    values = []

    def rests():
        values.append(c.status()["fetched_bytes"])
        return len(values) > 6 and len(set(values[-6:])) == 1
    with open(c.mnt / "big", "rb", buffering=0) as f:
        for _ in range(16):
            assert len(f.read(mib)) == mib
        wait_for(rests, 20)
        run = subprocess.run([str(program), str(c.mnt / "big")], capture_output=True)
        assert 16 * mib < len(run.stdout) < 64 * mib and b"No route to host" in run.stderr
        time.sleep(1)
        assert c.status()["fetched_bytes"] == values[-1]


def test_ready_knows_the_rules(server, make_client):
    c = make_client().mount("--max-stale", "1h")
    wait_for(lambda: c.status()["feed_live"])
    assert c.run("ready", "--for", "30m").stdout == "ready\n"
    r = c.run("ready", "--for", "2h", check=False)
    assert r.returncode == 9 and "max-stale" in r.stdout
    c.umount()
    c.mount("--strict")
    assert "strict" in c.run("ready", check=False).stdout
