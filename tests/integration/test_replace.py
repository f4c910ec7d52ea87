"""A volume whose key is lost is tried again, then, when a person says so, set aside whole and replaced; what is unsent in it
is sent when the key is found. And: a volume's token can be replaced."""
import json
import os
import re
import signal
import subprocess

import pytest

from cli_fixtures import edit_config, fails, key_file, on_terminal
from conftest import Client, wait_for

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")


@pytest.fixture
def client(home, server):
    """Has something sent and something not, and its key in `client.key`."""
    c = Client(home, server)
    c.token = c.home / "token2"
    c.token.write_text(server.token)
    c.token.chmod(0o600)
    c.mount()
    (c.mnt / "sent").write_bytes(b"at the origin")
    c.sync()
    c.run("offline")
    (c.mnt / "unsent").write_bytes(b"only here")
    c.umount()
    c.key = key_file(c).read_text()
    yield c
    c.close()


def replace(client, *args, check=True):
    return client.run("mount", "--replace", "--token-file", str(client.token), *args, str(client.mnt), check=check)


def names(client):
    return sorted(p.stem for p in (client.home / "config" / "cachet").glob("*.json"))


def find_the_key_again(client, name="default-aside-1"):
    place = key_file(client).with_name(key_file(client).name + "." + name)
    place.write_text(client.key)
    place.chmod(0o600)


def sends_what_was_unsent(client, server):
    find_the_key_again(client)
    client.run("mount", "default-aside-1", str(client.mnt))
    assert (client.mnt / "unsent").read_bytes() == b"only here"
    client.run("sync", "--wait", "--timeout", "60", "default-aside-1")
    client.umount()
    assert server.read("notes", "unsent") == b"only here"


def test_without_consent_a_lost_key_changes_nothing(client):
    key_file(client).unlink()
    before = {p: p.read_bytes() for p in client.volume.rglob("*") if p.is_file() and p.name not in ("daemon.log", "lock")}
    r = client.run("mount", str(client.mnt), check=False)
    assert r.returncode != 0 and "--replace" in r.stderr and "key file" in r.stderr
    assert names(client) == ["default"]
    assert before == {p: p.read_bytes() for p in before}
    assert not key_file(client).exists()


@pytest.mark.parametrize("how", ["missing", "wrong", "no-keyring"])
def test_with_consent_it_is_set_aside_and_the_origin_fills_a_new_one(client, server, how):
    if how == "missing":
        key_file(client).unlink()
    elif how == "wrong":
        key_file(client).write_text("ab" * 32 + "\n")
    else:
        (client.volume / "keyring.json").rename(client.home / "keyring")
    old = client.volume
    r = replace(client)
    assert "default-aside-1" in r.stderr
    assert (client.mnt / "sent").read_bytes() == b"at the origin"
    assert not (client.mnt / "unsent").exists()
    (client.mnt / "more").write_bytes(b"works")
    client.sync()
    client.umount()
    events = [json.loads(e["detail"])["result"] for e in json.loads(client.run("events", "--json", "default").stdout)["events"]
              if e["kind"] == "rehydrate"]
    assert events == ["begun", "done"]
    if how == "no-keyring":
        (client.home / "keyring").rename(old / "keyring.json")
    sends_what_was_unsent(client, server)


def test_the_refill_shows_how_far_it_is_and_lists_every_name(client, server):
    client.mount()
    for i in range(6):
        (client.mnt / f"d{i}").mkdir()
        for j in range(40):
            (client.mnt / f"d{i}" / f"f{j}").touch()
    client.sync()
    client.umount()
    key_file(client).unlink()
    code, shown = on_terminal([str(client.binary), "mount", "--replace", "--token-file", str(client.token), str(client.mnt)], client.env, [], 60)
    assert code == 0, shown
    counts = [int(n) for n in re.findall(r"\rlisting: (\d+) files and directories", shown)]
    assert counts and counts == sorted(counts) and counts[-1] >= 6 + 6 * 40, shown
    server.stop()
    assert {f"d{i}/f{j}" for i in range(6) for j in range(40)} == {str(p.relative_to(client.mnt)) for p in client.mnt.glob("d*/*")}
    server.start()
    client.umount()


def test_a_volume_that_opens_is_not_replaced(client):
    replace(client)
    assert names(client) == ["default"]
    assert (client.mnt / "unsent").read_bytes() == b"only here"


def test_the_configuration_can_consent_for_who_has_a_token(client):
    key_file(client).unlink()
    edit_config(client, replace_lost=True)
    client.run("mount", "--token-file", str(client.token), str(client.mnt))
    assert names(client) == ["default", "default-aside-1"]


def test_a_key_that_comes_late_is_waited_for_once(client):
    late = client.home / "late"
    late.write_text(f"""n=$(cat {late}.n 2>/dev/null || echo 0); echo $((n + 1)) >{late}.n
[ $n -ge 2 ] || exit 1
cat {key_file(client)}
""")
    edit_config(client, key_source=f"command:sh {late}")
    client.mount()
    assert (client.mnt / "unsent").read_bytes() == b"only here"


@pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")
@pytest.mark.parametrize("step", ["replace-aside", "create-keyring", "create-index", "create-done", "replace-made", "replace-done"])
def test_killed_at_any_step_the_next_try_goes_on(client, server, step):
    key_file(client).unlink()
    env = {**client.env, "CACHET_FAILPOINTS": f"{step}=1:kill"}
    r = subprocess.run([FAILPOINTS_BIN, "mount", "--replace", "--token-file", str(client.token), str(client.mnt)], env=env,
                       capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    assert r.returncode == -signal.SIGKILL
    replace(client)
    assert (client.mnt / "sent").read_bytes() == b"at the origin"
    client.umount()
    assert names(client) == ["default", "default-aside-1"]
    sends_what_was_unsent(client, server)


def dead_token(client):
    dead = client.home / "dead"
    dead.write_text("0" * 64)
    return str(dead)


def is_sealed(client, token):
    return not any(token.encode() in f.read_bytes() for f in client.volume.rglob("*") if f.is_file())


def test_a_token_can_be_replaced(client, server):
    client.run("token", "--token-file", dead_token(client))
    client.mount()
    wait_for(lambda: client.status()["state"] == "auth-needed")
    client.umount()
    client.run("token", "--token-file", str(client.token))
    client.mount()
    client.sync()
    assert server.read("notes", "unsent") == b"only here"
    assert is_sealed(client, server.token)


def test_a_mounted_volume_takes_another_token_up_at_once_and_keeps_it(client, server):
    client.mount()
    client.run("token", "--token-file", dead_token(client), str(client.mnt))
    wait_for(lambda: client.status()["state"] == "auth-needed")
    client.run("token", "--token-file", str(client.token), str(client.mnt))
    client.sync()
    assert server.read("notes", "unsent") == b"only here"
    client.sigkill()
    client.run("umount", str(client.mnt), check=False)
    client.mount()
    (client.mnt / "more").write_bytes(b"sent by the new token")
    client.sync()
    assert server.read("notes", "more") == b"sent by the new token"
    assert is_sealed(client, server.token)
    assert not list((client.home / "run").rglob("*.key"))


def test_a_locked_volume_takes_no_token(client):
    client.mount()
    client.run("lock")
    assert "unlock" in fails(client, 6, "token", "--token-file", str(client.token))
    client.run("unlock")
    client.umount()


def test_a_token_can_be_replaced_where_the_server_holds_the_key(home, server):
    c = Client(home, server, key="server")
    try:
        other = c.home / "other"
        other.write_text(server.token)
        before = (c.volume / "keyring.json").read_text()
        c.run("token", "--token-file", str(other))
        assert json.loads(before)["device"]["token"] != json.loads((c.volume / "keyring.json").read_text())["device"]["token"]
        c.mount()
        (c.mnt / "x").write_bytes(b"x")
        c.sync()
        c.run("token", "--token-file", dead_token(c), str(c.mnt))
        fails(c, 5, "rotate", str(c.mnt))
        c.run("token", "--token-file", str(other), str(c.mnt))
        c.run("rotate", str(c.mnt))
    finally:
        c.close()
