"""Two people at one machine, by two accounts of one login or by two logins: neither opens, evicts nor sees what is the other's."""
import json
import os
import subprocess
import types

import pytest

from cli_fixtures import Snapshot, fails
from conftest import Client, is_mounted, unmount
from other_user import NOBODY, OtherUser, as_user, needs_root, reachable

SECRET = b"annas-diary-8d2f " * 3000


def account(server, name):
    """The server as this account sees it, with a store of its own."""
    token = server.admin("token", "add", "--account", name, str(server.dir)).strip()
    server.admin("store", "add", "--account", name, f"of-{name}", str(server.dir))
    return types.SimpleNamespace(url=server.url, token=token)


@pytest.fixture
def anna(home, server):
    """A volume with sent and unsent work, unmounted."""
    c = Client(home, account(server, "anna"), name="machine", store="of-anna", key="server")
    c.mount()
    (c.mnt / "annas-diary").write_bytes(SECRET)
    c.sync()
    c.run("offline")
    (c.mnt / "annas-draft").write_bytes(b"not sent")
    c.umount()
    yield c
    c.close()


@pytest.fixture
def bert(anna, server, home):
    """The same login signs in as somebody else: {mount point, token}."""
    his = account(server, "bert")
    mnt, token = home / "berts", home / "berts-token"
    mnt.mkdir()
    token.write_text(his.token)
    token.chmod(0o600)
    anna.run("init", "--name", "bert", "--key", "server", "--store", "of-bert", "--cache-size", "34MB", "--token-file", str(token), his.url)
    yield types.SimpleNamespace(mnt=mnt, token=token)
    unmount(mnt)


def volume_of(client, name):
    config = json.loads((client.home / "config" / "cachet" / f"{name}.json").read_text())
    return client.home / "state" / "cachet" / config["id"]


def test_another_account_neither_sees_evicts_nor_changes_the_first_ones_volume(anna, bert):
    hers = volume_of(anna, "default")
    before = Snapshot(hers, ignore=())
    anna.run("mount", "bert", str(bert.mnt))
    for i in range(12):  # twice its limit
        (bert.mnt / f"f{i}").write_bytes(os.urandom(5_000_000))
        anna.run("sync", "--wait", str(bert.mnt))
    assert sorted(os.listdir(bert.mnt)) == sorted(f"f{i}" for i in range(12))
    for verb in ("status", "journal", "events", "keys"):
        assert "annas" not in anna.run(verb, "--json", str(bert.mnt)).stdout
    anna.run("umount", str(bert.mnt))
    assert Snapshot(hers, ignore=()) == before
    anna.run("mount", "default", str(anna.mnt))
    assert (anna.mnt / "annas-diary").read_bytes() == SECRET and (anna.mnt / "annas-draft").read_bytes() == b"not sent"
    anna.run("umount", str(anna.mnt))


def test_another_accounts_token_does_not_take_the_first_ones_volume_over(anna, bert):
    hers = volume_of(anna, "default")
    before = Snapshot(hers)
    fails(anna, 1, "enroll", "default", "--token-file", str(bert.token))
    assert Snapshot(hers) == before
    anna.run("mount", "default", str(anna.mnt))
    assert (anna.mnt / "annas-draft").read_bytes() == b"not sent"
    anna.run("umount", str(anna.mnt))


@needs_root
def test_another_login_cannot_even_look(anna, home):
    anna.run("mount", "default", str(anna.mnt))
    binary = reachable(anna.binary, home)
    env = {**anna.env, "HOME": "/nonexistent", "XDG_CONFIG_HOME": str(anna.home / "config")}

    def as_nobody(*argv):
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False, **as_user(NOBODY))
    for argv in (["ls", str(anna.mnt)], ["ls", str(anna.volume)], ["cat", str(anna.mnt / "annas-diary")], ["ls", "-R", str(anna.home / "config" / "cachet")],
                 [str(binary), "status", "default"], [str(binary), "ls", str(anna.mnt)], [str(binary), "mount", "default"]):
        r = as_nobody(*argv)
        assert r.returncode != 0, argv
        assert "annas-d" not in r.stdout, argv
    anna.run("umount", str(anna.mnt))


@needs_root
def test_the_daemon_does_not_talk_to_another_login_even_when_the_socket_is_open(anna):
    anna.run("mount", "default", str(anna.mnt))
    path = next((anna.home / "run").rglob("*.sock"))
    for p in (path, *path.parents):
        if p.is_relative_to(anna.home.parent):
            p.chmod(0o777)
    code = f"""
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r}); s.settimeout(20)
try:
    s.sendall(b'{{"do":"status"}}\\n')
    print(s.recv(65536).decode())
except ConnectionError:
    pass
"""
    r = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, timeout=60, check=True, **as_user(NOBODY))
    assert "state" not in r.stdout and "mountpoint" not in r.stdout, r.stdout
    assert is_mounted(anna.mnt)
    path.parent.chmod(0o700)
    path.chmod(0o600)
    anna.run("umount", str(anna.mnt))


@needs_root
def test_another_logins_volume_leaves_the_first_ones_alone(anna, home, server):
    before = Snapshot(anna.home, ignore=())
    c = OtherUser(home, account(server, "carl"), NOBODY, name="carl", store="of-carl")
    try:
        assert "annas" not in c.run("status", "--all").stdout
        assert Snapshot(anna.home, ignore=()) == before
    finally:
        c.close()
