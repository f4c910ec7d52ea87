"""What happens to the keys of a volume stands in its log, chained, without a name."""
import json
import os
import pathlib

import pytest

from cli_fixtures import fails
from conftest import BIN, Client, wait_for

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")
needs_failpoints = pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")


def events(client):
    reply = json.loads(client.run("events", "--json", "--verify").stdout)
    assert not reply.get("bad_id")
    return [(e["kind"], json.loads(e["detail"])) for e in reply["events"]]


def test_the_life_of_the_keys_is_in_the_log(home, server):
    c = Client(home, server, key="server")
    try:
        c.mount()
        assert events(c) == [("enrol", {})]
        c.run("rotate")
        server.admin("rotate", "--all", str(server.dir))
        c.run("rotate")
        done = [d["result"] for k, d in events(c) if k == "rotate"]
        assert done[0] == "begun" and done[-1] == "done" and "failed" not in done and done.count("done") >= 2
        c.run("lock", str(c.mnt))
        c.run("unlock", str(c.mnt))
        assert [k for k, _ in events(c)][-2:] == ["lock", "unlock"]
        server.stop()
        fails(c, 4, "rotate")
        kind, detail = events(c)[-1]
        assert kind == "rotate" and detail["result"] == "failed" and detail["error"]
        server.start()
        c.umount()
        server.admin("rotate", "--all", str(server.dir))
        c.mount()
        assert events(c)[-1] == ("rotate", {"result": "done"}), "a rotation while it was not mounted is told"
        c.umount()
        before = len(events(c))
        c.mount()
        assert len(events(c)) == before, "and told once"
    finally:
        c.close()


def test_an_import_is_in_the_log_without_names(home, client):
    source = home / "private-name"
    source.mkdir()
    (source / "secret-file").write_bytes(b"12345")
    client.run("import", str(source), str(client.mnt))
    assert events(client) == [("import", {"files": 1, "bytes": 5})]
    assert "private" not in client.run("events").stdout and not source.exists()


def test_an_export_is_in_the_log_without_names_and_a_failed_one_is_not(home, client, server):
    (client.mnt / "private-name").write_bytes(b"12345")
    client.run("export", str(client.mnt / "private-name"), "-o", str(home / "out"))
    assert events(client) == [("export", {"files": 1, "bytes": 5})]
    client.run("export", "--records", str(client.mnt / "private-name"), "-o", str(home / "records"))
    assert events(client)[1:] == [("export", {"files": 1, "bytes": 5})]
    assert "private" not in client.run("events").stdout
    fails(client, 1, "export", str(client.mnt / "private-name"), "-o", str(home / "nowhere" / "out"))
    assert len(events(client)) == 2


def test_a_revocation_and_the_new_enrolment_are_in_the_log(home, server):
    c = Client(home, server, key="server")
    try:
        c.mount("--offline")
        (c.mnt / "unsent").write_bytes(b"x")
        c.umount()
        c.mount("--offline")
        dkid = json.loads(c.run("keys", "--json").stdout)["dkid"]
        server.admin("device", "revoke", dkid, str(server.dir))
        c.run("rotate", check=False)
        wait_for(lambda: c.status()["state"] == "locked")
        c.umount()
        token = home / "token"
        token.write_text(server.token)
        c.run("enroll", "--token-file", str(token))
        c.mount("--offline")
        kinds = [k for k, _ in events(c)]
        assert ("revoke", {}) in events(c) and kinds.count("enrol") == 2, kinds
        assert kinds.index("revoke") < len(kinds) - 1 - kinds[::-1].index("enrol")
    finally:
        c.close()


def with_failpoint(client, rule, *args):
    client.binary, client.env["CACHET_FAILPOINTS"] = pathlib.Path(FAILPOINTS_BIN), rule
    try:
        return client.run(*args, check=False)
    finally:
        client.binary = BIN
        del client.env["CACHET_FAILPOINTS"]


@needs_failpoints
def test_a_rekey_that_fails_is_in_the_log_and_goes_on(client):
    (client.mnt / "f").write_bytes(b"x" * 100_000)
    client.umount()
    assert with_failpoint(client, "rekey-index-copy=1:28", "rekey").returncode
    client.run("rekey")
    results = [(d["result"], d.get("error")) for k, d in events(client) if k == "rekey"]
    assert [r for r, _ in results] == ["begun", "failed", "done"] and "space" in results[1][1]


@needs_failpoints
def test_a_wipe_that_does_not_get_as_far_as_the_keys_is_in_the_log(client):
    client.umount()
    assert with_failpoint(client, "wipe-begins=1:kill", "wipe", "default").returncode < 0
    assert events(client) == [("wipe", {"result": "begun"})]
    client.run("wipe", "default")
    assert not list((client.home / "state" / "cachet").iterdir())
