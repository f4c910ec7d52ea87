"""A store as one sealed file, and its key nowhere but in the answer (docs/protocol.md, Export)."""
import json
import os
import re
import sqlite3
import subprocess

import pytest

from server_fixtures import Server, command
from test_jobs import eventually, memory

MIB = 1 << 20


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path).start()
    yield s
    s.close()


@pytest.fixture
def client(server):
    c = server.client()
    yield c
    c.close()


def export(client):
    a = client.call("POST", "/v1/stores/main/export")
    assert a.status == 200 and a.headers["Content-Type"] == "application/json", a
    assert a.json["warning"] == "Store this key securely. Without it, the encrypted data cannot be decrypted."
    assert a.json["filename"] == "main.db.enc" and re.fullmatch("[0-9a-f]{64}", a.json["encryption_key"])
    return a


def view(tmp_path, answer, key=None):
    """The SQLite file that `cachet view` makes of an answer."""
    sealed, out, keys = tmp_path / "answer.json", tmp_path / "out", tmp_path / "key"
    sealed.write_bytes(answer.body)
    keys.write_text(key or answer.json["encryption_key"])
    cachet = command()[0].replace("tests/tools/serve_main", "cli/cachet")
    r = subprocess.run([cachet, "view", "--key-file", keys, "--extract", out, sealed], capture_output=True, text=True)
    return r, next(out.iterdir(), None) if out.exists() else None


def test_everything_of_the_store_is_in_it(server, client, tmp_path):
    contents = {"small": os.urandom(5), "empty": b"", "row": os.urandom(16384), "file": os.urandom(16385),
                "large": os.urandom(3 * MIB + 7)}
    client.mkdir("d", "directory")
    for name, content in contents.items():
        client.make(name, name + ".bin", content, parent="d")
    gone = client.make("gone", "gone", b"x")
    client.delete("gone", gone["etag"])
    server.admin("store", "add", "other", str(server.dir))
    other = server.client(store="other")
    other.make("o", "o", b"of another store")
    other.close()
    r, file = view(tmp_path, export(client))
    assert r.returncode == 0, r.stderr
    db = sqlite3.connect(file)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT id, parent, name, kind FROM records WHERE kind = 'dir'").fetchall() == [
        ("d", "root", "directory", "dir")]
    found = {i: b"" for (i,) in db.execute("SELECT id FROM records WHERE kind = 'file'")}
    for i, data in db.execute("SELECT id, data FROM contents ORDER BY id, part"):
        found[i] += data
    assert found == contents
    assert db.execute("SELECT id FROM store").fetchall() == [("main",)]
    db.close()


def test_another_key_opens_nothing(client, tmp_path):
    client.make("a", "a", b"x")
    a, b = export(client), export(client)
    assert a.json["encryption_key"] != b.json["encryption_key"]
    r, file = view(tmp_path, a, b.json["encryption_key"])
    assert r.returncode == 6 and not file


def test_the_key_is_nowhere_on_the_server(server, client):
    client.make("a", "a", b"CONTENT-CANARY" * 100)
    key = export(client).json["encryption_key"]
    client.close()
    needles = (key.encode(), bytes.fromhex(key))
    eventually(lambda: not any(n in m for m in memory(server.process.pid) for n in needles))
    for p in [p for p in server.dir.rglob("*") if p.is_file()] + [server.log]:
        assert not any(n in p.read_bytes() for n in needles), p
    assert not list((server.dir / "tmp").iterdir())


def test_an_export_is_in_the_audit_log(server, client):
    export(client)
    log = [json.loads(line) for line in server.admin("audit", "--json", str(server.dir)).splitlines()]
    entries = [e for e in log if e["what"] == "export"]
    assert len(entries) == 1 and entries[0]["subject"] == "store main" and "tester" in entries[0]["who"]


def test_a_large_store_does_not_grow_the_server(server, client, tmp_path):
    for i in range(6):
        client.make(f"l{i}", f"l{i}", os.urandom(16 * MIB))
    client.make("warm", "warm", b"x")
    peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1])
    before = peak()
    assert len(export(client).body) > 192 * MIB
    assert peak() - before < 32 * 1024, (before, peak())


def test_only_who_may_read_the_store_exports_it(server, client):
    server.admin("store", "add", "other", str(server.dir))
    stranger = server.client(server.new_token("--store", "other"))
    assert stranger.call("POST", "/v1/stores/main/export").status == 403
    assert stranger.call("POST", "/v1/stores/nothing/export").status == 403
    stranger.close()
    assert client.call("POST", "/v1/stores/nothing/export").problem == "no-store"
