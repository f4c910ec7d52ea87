"""What happens to the keys of a volume stands in its log, chained, without a name."""
import json

from cli_fixtures import fails
from conftest import Client


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
