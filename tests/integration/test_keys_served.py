"""A volume whose key the server holds, with `cachet serve` as that server: both sides are the product."""
import json
import subprocess

import pytest

from cli_fixtures import fails
from conftest import Client, is_mounted, wait_for


@pytest.fixture
def enrolled(home, server):
    c = Client(home, server, key="server")
    yield c
    c.close()


def devices(server):
    return json.loads(server.admin("device", "ls", "--json", str(server.dir)))["devices"]


def record(client):
    return json.loads((client.volume / "keyring.json").read_text())


def test_a_volume_lives_through_restarts_rotation_and_the_servers_kill(enrolled, server):
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"one")
    enrolled.sync()
    d, = devices(server)
    assert d["kid"] == record(enrolled)["kid"] and d["state"] == "ok"
    enrolled.umount()
    server.stop(9)
    server.start()
    server.admin("rotate", "--all", str(server.dir))
    enrolled.mount()
    assert (enrolled.mnt / "x").read_bytes() == b"one"
    new, = devices(server)
    assert new["kid"] != d["kid"] and record(enrolled)["kid"] == new["kid"] and new["dkid"] == d["dkid"]
    enrolled.run("rotate")
    last, = devices(server)
    assert last["kid"] not in (d["kid"], new["kid"]) and record(enrolled)["kid"] == last["kid"]
    enrolled.umount()
    server.stop()
    enrolled.mount("--offline")
    assert (enrolled.mnt / "x").read_bytes() == b"one"
    enrolled.umount()
    server.start()


def test_a_revoked_machine_is_erased_and_comes_back_with_what_it_had_not_sent(enrolled, server, home):
    enrolled.mount()
    enrolled.run("offline")
    (enrolled.mnt / "y").write_bytes(b"not sent")
    old, = devices(server)
    server.admin("device", "revoke", old["dkid"], str(server.dir))
    enrolled.run("rotate", check=False)
    assert "deviceKeys" not in record(enrolled)["device"]
    enrolled.run("umount", str(enrolled.mnt), check=False)
    wait_for(lambda: not is_mounted(enrolled.mnt))
    fails(enrolled, 6, "mount", str(enrolled.mnt))
    token = home / "token"
    token.write_text(server.token)
    enrolled.run("enroll", "--token-file", str(token))
    enrolled.mount()
    enrolled.sync()
    assert server.read("notes", "y") == b"not sent"
    revoked, new = devices(server)
    assert revoked["state"] == "revoked" and new["state"] == "ok" and new["dkid"] != old["dkid"]


CANARY = b"canary-1c90d2-untrusted"


def disk_of(client):
    """Every byte the client has on a disk, its mount left out."""
    return {p: p.read_bytes() for d in ("config", "state") for p in (client.home / d).rglob("*") if p.is_file()}


def test_an_untrusted_machine_keeps_nothing_on_its_disk_until_it_is_trusted(enrolled, server, home):
    enrolled.mount()
    enrolled.run("offline")
    (enrolled.mnt / "unsent").write_bytes(b"on the disk")
    enrolled.umount()
    d, = devices(server)
    server.admin("device", "untrust", d["dkid"], str(server.dir))
    before = disk_of(enrolled)
    assert "not to be trusted" in fails(enrolled, 6, "mount", str(enrolled.mnt)), "nobody gave it a token"
    token = home / "token"
    token.write_text(server.token)
    enrolled.mount("--token-file", str(token))
    assert json.loads(enrolled.run("status", "--json").stdout)["memory_only"]
    assert not (enrolled.mnt / "unsent").exists()
    (enrolled.mnt / "made").write_bytes(CANARY * 5000)
    enrolled.sync()
    opened = subprocess.run(["lsof", "-n", "-P", "-Fn", "-p", str(enrolled.pid())], capture_output=True, text=True, check=False)
    names = [line[1:] for line in opened.stdout.splitlines() if line.startswith("n/")]
    assert any(n.startswith("/dev/shm/cachet-") for n in names), "lsof saw nothing"
    assert not [n for n in names if n.startswith((str(enrolled.home / "state"), str(enrolled.home / "config")))], names
    enrolled.umount()
    assert disk_of(enrolled) == before
    assert server.read("notes", "made") == CANARY * 5000
    server.admin("device", "trust", d["dkid"], str(server.dir))
    enrolled.mount()
    assert (enrolled.mnt / "unsent").read_bytes() == b"on the disk"
    enrolled.sync()
    assert server.read("notes", "unsent") == b"on the disk"


def test_a_mounted_volume_locks_when_the_machine_is_not_trusted_any_more(enrolled, server):
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"x")
    enrolled.sync()
    d, = devices(server)
    server.admin("device", "untrust", d["dkid"], str(server.dir))
    enrolled.run("rotate", check=False)  # asks the server
    wait_for(lambda: enrolled.status()["state"] == "locked")
    assert "not to be trusted" in fails(enrolled, 6, "unlock")
    server.admin("device", "trust", d["dkid"], str(server.dir))
    enrolled.run("unlock")
    assert (enrolled.mnt / "x").read_bytes() == b"x"
