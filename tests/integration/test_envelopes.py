"""Record envelopes: what other programs seal and open, here sealed and opened."""
import base64
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cli_fixtures import fails

HERE = pathlib.Path(__file__).resolve().parent
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs the package nodejs")


def b64(data):
    return base64.b64encode(data).decode()


def seal(key, meta, plain):
    """A second implementation of docs/format.md, section Envelope."""
    aad = json.dumps({k: meta[k] for k in sorted(meta)}, separators=(",", ":"), ensure_ascii=False).encode()
    iv = os.urandom(12)
    ct = AESGCM(key).encrypt(iv, plain, aad)
    return {"enc": {"alg": "A256GCM", "iv": b64(iv), "ct": b64(ct[:-16]), "tag": b64(ct[-16:])}, "meta": meta}


def webcrypto(key, envelopes):
    r = subprocess.run(["node", str(HERE / "open_envelopes.mjs"), key], input=json.dumps(envelopes),
                       capture_output=True, text=True, check=True)
    return [json.loads(text) for text in json.loads(r.stdout)]


@pytest.fixture
def filled(client):
    (client.mnt / "d").mkdir()
    (client.mnt / "d" / "a €").write_bytes(b"content of a")
    (client.mnt / "d" / "empty").touch()
    (client.mnt / "d" / "link").symlink_to("empty")
    return client


@needs_node
def test_webcrypto_opens_an_export_of_records(filled, server):
    filled.sync()
    r = json.loads(filled.run("export", "--records", "--json", str(filled.mnt)).stdout)
    records = {p["path"]: p for p in webcrypto(r["encryption_key"], r["records"])}
    assert sorted(records) == ["d", "d/a €", "d/empty", "d/link"]
    assert base64.b64decode(records["d/a €"]["content"]) == b"content of a"
    assert records["d/link"]["target"] == "empty"
    known = server.records("notes")
    by_id = {e["meta"]["id"]: e["meta"]["table"] for e in r["records"]}
    assert by_id == {known[p]["id"]: "notes" for p in records}


@needs_node
def test_webcrypto_opens_an_exported_journal_and_the_journal_stays(filled):
    filled.sync()
    filled.run("offline")
    (filled.mnt / "d" / "new").write_bytes(b"unsent")
    (filled.mnt / "d" / "empty").unlink()
    filled.umount()
    r = json.loads(filled.run("journal", "export", "--json").stdout)
    operations = webcrypto(r["encryption_key"], r["records"])
    assert [(o["kind"], o["path"].split("/")[-1]) for o in operations] == [("put", "new"), ("delete", "empty")]
    assert base64.b64decode(operations[0]["content"]) == b"unsent"
    assert len(json.loads(filled.run("journal", "--json").stdout)["operations"]) == 2


def test_records_come_back_from_a_file(filled, home):
    text = filled.run("export", "--records", str(filled.mnt / "d"), "-o", str(home / "records")).stdout
    (home / "key").write_text(next(line.split()[1] for line in text.splitlines() if line.startswith("key ")))
    assert json.loads((home / "records").read_text())[0]["enc"]["alg"] == "A256GCM"
    assert b"content" not in (home / "records").read_bytes()
    (filled.mnt / "back").mkdir()
    filled.run("import", "--envelopes", "-k", str(home / "key"), str(home / "records"), str(filled.mnt / "back"))
    back = filled.mnt / "back" / "d"
    assert (back / "a €").read_bytes() == b"content of a" and (back / "empty").read_bytes() == b""
    assert os.readlink(back / "link") == "empty"


def bring(client, home, envelopes, key, code=0):
    (home / "in").write_text(json.dumps(envelopes))
    (home / "key").write_text(key.hex())
    args = ("import", "--envelopes", "-k", str(home / "key"), str(home / "in"), str(client.mnt))
    return fails(client, code, *args) if code else client.run(*args)


def test_records_of_other_programs_come_in_as_they_are(client, home):
    key, iv = os.urandom(32), os.urandom(12)
    bring(client, home, [seal(key, {"table": "cv", "id": "7", "version": "a1", "tenant": "t", "user": "ü"}, b'{"name":"x"}'),
                         {"v": 1, "iv": b64(iv), "ct": b64(AESGCM(key).encrypt(iv, b"bare", None))}], key)
    assert (client.mnt / "cv" / "7").read_bytes() == b'{"name":"x"}'
    assert (client.mnt / "record-2").read_bytes() == b"bare"


def test_one_envelope_that_does_not_open_keeps_all_out(client, home):
    key = os.urandom(32)
    good = seal(key, {"table": "t", "id": "1", "version": 1}, b"x")
    for name, change in (("replayed", lambda e: e["meta"].update(version=2)), ("moved", lambda e: e["meta"].update(id="2")),
                         ("foreign", lambda e: e.update(seal(os.urandom(32), e["meta"], b"x"))),
                         ("tag", lambda e: e["enc"].update(tag=b64(bytes(16))))):
        bad = json.loads(json.dumps(good))
        change(bad)
        assert "nothing was written" in bring(client, home, [good, bad], key, code=6), name
    for bad in ({}, [], {"v": 2, "iv": "", "ct": ""}, {"enc": {}, "meta": {}}):
        assert "nothing was written" in bring(client, home, [good, bad], key, code=7)
    assert not list(client.mnt.iterdir())


@pytest.mark.parametrize("path", ["../out", "/tmp/out", "a/../../out", ""])
def test_a_path_that_leads_elsewhere_keeps_all_out(client, home, path):
    key = os.urandom(32)
    record = json.dumps({"path": path, "type": "file", "mode": 384, "content": b64(b"x")}).encode()
    bring(client, home, [seal(key, {"table": "..", "id": "x", "version": 1}, record)], key, code=7)
    bring(client, home, [seal(key, {"table": "../..", "id": "x", "version": 1}, b"foreign")], key, code=7)
    assert not list(client.mnt.iterdir())


def test_nothing_is_replaced(client, home):
    key = os.urandom(32)
    (client.mnt / "mine").write_text("mine")
    record = json.dumps({"path": "mine", "type": "file", "mode": 384, "content": b64(b"theirs")}).encode()
    bring(client, home, [seal(key, {"table": "t", "id": "x", "version": 1}, record)], key, code=9)
    assert (client.mnt / "mine").read_text() == "mine"
