"""The Records protocol against the real server, call by call and error by error (docs/protocol.md)."""
import base64
import contextlib
import hashlib
import http.client
import os
import re
import stat
import sqlite3
import subprocess
import threading
import time

import pytest

from server_fixtures import Server, command, new_key, op_put

MIB = 1 << 20
# As people start it: command() may be the tool with more options.
CACHET = [os.environ["CACHET_BIN"], "serve"] if "CACHET_BIN" in os.environ else command()


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


def sha(data):
    return hashlib.sha256(data).hexdigest()


def files_in(server):
    return [p for d in ("content", "tmp") for p in (server.dir / d).rglob("*") if p.is_file()]


def eventually(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "not so in time"
        time.sleep(0.02)


# ---- reading ----

def test_capabilities_say_who_the_server_is_and_its_limits(client):
    a = client.call("GET", "/v1")
    assert a.status == 200
    j = a.json
    assert j["protocol"] == 1 and j["last_seq"] == 0 and j["idempotency_days"] >= 30
    assert re.fullmatch("[0-9a-f]{32}", j["instance"]) and re.fullmatch("[0-9a-f]{32}", j["epoch"])
    assert j["instance"] == a.headers["Cachet-Instance"]
    assert j["limits"]["max_batch"] == 1000 and j["limits"]["max_wait_s"] == 60
    assert abs(int(j["time_ns"]) - time.time_ns()) < 60e9


def test_stores_count_records_and_bytes(client):
    client.make("a", "a", b"12345")
    r = client.make("b", "b", b"123")
    client.mkdir("d", "d")
    client.delete("b", r["etag"])
    assert client.call("GET", "/v1/stores").json == {
        "stores": [{"id": "main", "mode": "rw", "records": 2, "bytes": 5, "queries": []}]}


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 3 * MIB + 7])
def test_content_comes_back_as_it_was_put(client, size):
    content = os.urandom(size)
    made = client.make("x", "x", content)
    assert made["size"] == size and made["sha256"] == sha(content)
    a = client.get("x")
    assert a.status == 200 and a.body == content
    assert a.headers["ETag"] == made["etag"] and a.headers["Accept-Ranges"] == "bytes"
    assert a.headers["Last-Modified"].endswith("GMT") and a.headers["Content-Type"]
    assert {k: a.record[k] for k in made} == made
    h = client.call("HEAD", client.url("x"))
    assert h.status == 200 and h.body == b"" and int(h.headers["Content-Length"]) == size
    assert h.headers["Cachet-Record"] == a.headers["Cachet-Record"]


@pytest.mark.parametrize("size", [1000, 100_000])
def test_ranges(client, size):
    content = os.urandom(size)
    etag = client.make("x", "x", content)["etag"]
    a = client.get("x", Range="bytes=10-19")
    assert a.status == 206 and a.body == content[10:20]
    assert a.headers["Content-Range"] == f"bytes 10-19/{size}"
    assert client.get("x", Range="bytes=-5").body == content[-5:]
    assert client.get("x", Range=f"bytes={size - 3}-").body == content[-3:]
    assert client.get("x", Range=f"bytes=0-{size * 2}").body == content
    a = client.get("x", Range=f"bytes={size}-")
    assert a.status == 416 and a.problem == "range" and a.headers["Content-Range"] == f"bytes */{size}"
    for ignored in ("bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=", "bytes=a-b"):
        assert client.get("x", Range=ignored).status == 200
    assert client.get("x", Range="bytes=0-3", If_Range=etag).status == 206
    a = client.get("x", Range="bytes=0-3", If_Range='"other"')
    assert a.status == 200 and a.body == content
    assert client.get("x", Range="bytes=0-3", If_Match='"other"').status == 412


def test_conditional_get(client):
    etag = client.make("x", "x", b"abc")["etag"]
    a = client.get("x", If_None_Match=etag)
    assert a.status == 304 and a.body == b"" and a.headers["ETag"] == etag and a.headers["Content-Length"] == "3"
    assert client.get("x", If_None_Match=f'"q", W/{etag}').status == 304
    assert client.get("x", If_None_Match='"q"').status == 200
    a = client.get("x", If_Match='"q"')
    assert a.status == 412 and a.problem == "precondition" and a.json["record"]["etag"] == etag
    assert client.get("x", If_Match=etag).status == 200


def test_directories_and_the_root_are_records_as_json(client):
    made = client.mkdir("d", "d")
    a = client.get("d")
    assert a.status == 200 and a.headers["Content-Type"] == "application/json" and a.json == made
    assert made["mode"] == 0o755 and "size" not in made
    root = client.get("root").json
    assert root["id"] == "root" and root["kind"] == "dir"


def test_never_existing_is_404_and_deleted_is_410(client):
    a = client.get("nothing")
    assert a.status == 404 and a.problem == "no-record"
    etag = client.make("x", "x")["etag"]
    tomb = client.delete("x", etag)
    assert tomb.status == 200 and tomb.json["deleted"] is True and "size" not in tomb.json
    a = client.get("x")
    assert a.status == 410 and a.problem == "deleted" and a.json["record"] == tomb.json


def test_get_many(client):
    client.make("a", "a", b"alpha")
    client.make("big", "big", b"b" * (256 * 1024 + 1))
    client.make("mid", "mid", b"m" * 20000)
    client.mkdir("d", "d")
    gone = client.make("gone", "gone")
    client.delete("gone", gone["etag"])
    a = client.call("POST", "/v1/stores/main/get", {"ids": ["a", "nope", "gone", "big", "d", "mid"]})
    assert a.status == 200
    got = a.json["records"]
    assert got[0]["record"]["name"] == "a" and base64.b64decode(got[0]["content"]) == b"alpha"
    assert got[1] == {"id": "nope", "status": 404} and got[2] == {"id": "gone", "status": 410}
    assert got[3]["record"]["size"] == 256 * 1024 + 1 and "content" not in got[3]
    assert got[4]["record"]["kind"] == "dir" and "content" not in got[4]
    assert base64.b64decode(got[5]["content"]) == b"m" * 20000
    a = client.call("POST", "/v1/stores/main/get", {"ids": ["a"] * 1001})
    assert a.status == 413 and a.problem == "too-large"
    for bad in (b"", b"[]", b'{"ids":5}', b'{"ids":[5]}', b'{"ids":["a/b"]}', b'{"ids":["a"]'):
        a = client.call("POST", "/v1/stores/main/get", bad)
        assert a.status == 400 and a.problem == "bad-request"


# ---- making, replacing, moving, deleting ----

def test_put_makes_once_and_replaces_on_its_etag_only(client):
    made = client.put("x", b"one", name="x", Cachet_Mode="384", Cachet_Mtime_Ns="-5")
    assert made.status == 201 and made.headers["ETag"] == made.json["etag"]
    assert made.json["mode"] == 0o600 and made.json["mtime_ns"] == "-5"
    a = client.put("x", b"two", name="y")
    assert a.status == 412 and a.problem == "precondition" and a.json["record"] == made.json
    new = client.put("x", b"three", match=made.json["etag"])
    assert new.status == 200 and new.json["mode"] == 0o600 and new.json["name"] == "x"
    assert new.json["etag"] != made.json["etag"] and new.json["seq"] > made.json["seq"]
    a = client.put("x", b"four", match=made.json["etag"])
    assert a.status == 412 and a.json["record"] == new.json
    assert client.get("x").body == b"three"


def test_put_of_another_size_class_leaves_no_file_behind(server, client):
    etag = client.make("x", "x", b"s" * 100)["etag"]
    for size in (100_000, 50, 200_000, 300_000):
        a = client.put("x", os.urandom(size), match=etag)
        assert a.status == 200
        etag = a.json["etag"]
    eventually(lambda: len(files_in(server)) == 1)
    client.delete("x", etag)
    eventually(lambda: not files_in(server))


def test_chunked_upload(client):
    pieces = [b"abc", b"x" * 50_000, b"end"]
    a = client.call("PUT", client.url("x"), iter(pieces), {
        "Idempotency-Key": new_key(), "If-None-Match": "*",
        "Cachet-Parent": "root", "Cachet-Name": "x"})
    assert a.status == 201 and a.json["sha256"] == sha(b"".join(pieces))


def test_symlinks_keep_their_target(client):
    a = client.put("l", b"../else/where", name="l", kind="symlink")
    assert a.status == 201 and a.json["kind"] == "symlink"
    assert client.get("l").body == b"../else/where"
    assert client.put("m", b"t" * 4096, name="m", kind="symlink").status == 413
    assert client.put("m", b"a\0b", name="m", kind="symlink").status == 400
    assert client.put("m", b"", name="m", kind="symlink").status == 400


def test_patch_changes_place_and_attributes_and_moves_no_bytes(server, client):
    client.mkdir("d", "d")
    made = client.make("x", "x", b"q" * 50_000)
    before = files_in(server)
    a = client.patch("x", made["etag"], {"parent": "d", "name": "y", "mode": 0o640, "mtime_ns": "77"})
    assert a.status == 200
    assert (a.json["parent"], a.json["name"], a.json["mode"], a.json["mtime_ns"]) == ("d", "y", 0o640, "77")
    assert a.json["sha256"] == made["sha256"] and files_in(server) == before
    assert client.patch("x", made["etag"], {"name": "z"}).status == 412
    assert client.patch("nope", '"1"', {"name": "z"}).problem == "no-record"
    assert client.patch("x", None, {"name": "z"}).problem == "precondition-required"


def test_rename_over_deletes_the_replaced_record_in_the_same_step(client):
    new = client.make("new", "doc.tmp", b"new")
    old = client.make("old", "doc", b"old")
    assert client.patch("new", new["etag"], {"name": "doc"}).problem == "place-taken"
    a = client.patch("new", new["etag"], {"name": "doc", "replaces": {"id": "old", "etag": '"stale"'}})
    assert a.status == 412 and a.json["record"]["id"] == "old"
    a = client.patch("new", new["etag"], {"name": "doc", "replaces": {"id": "old", "etag": old["etag"]}})
    assert a.status == 200 and a.json["replaced"]["id"] == "old" and a.json["replaced"]["deleted"]
    assert client.get("old").status == 410
    records, _ = client.everything()
    assert list(records) == ["new"] and records["new"]["name"] == "doc"


def test_put_with_replaces(client):
    old = client.make("old", "doc", b"old")
    a = client.put("new", b"new", name="doc", Cachet_Replaces=f'old {old["etag"]}')
    assert a.status == 201 and a.json["replaced"]["id"] == "old"
    assert client.get("old").status == 410 and client.get("new").body == b"new"


def test_replaces_must_stand_at_the_place(client):
    new = client.make("new", "a")
    other = client.make("other", "elsewhere")
    a = client.patch("new", new["etag"], {"name": "b", "replaces": {"id": "other", "etag": other["etag"]}})
    assert a.status == 412 and a.json["record"]["id"] == "other" and client.get("other").status == 200


def test_directories_replace_only_empty_directories(client):
    d, e = client.mkdir("d", "d"), client.mkdir("e", "e")
    f = client.make("f", "f")
    g = client.make("g", "g", parent="e")
    a = client.patch("d", d["etag"], {"name": "e", "replaces": {"id": "e", "etag": e["etag"]}})
    assert a.status == 409 and a.problem == "not-empty"
    a = client.patch("d", d["etag"], {"name": "f", "replaces": {"id": "f", "etag": f["etag"]}})
    assert a.status == 409 and a.problem == "not-a-directory"
    a = client.patch("f", f["etag"], {"name": "e", "replaces": {"id": "e", "etag": e["etag"]}})
    assert a.status == 409 and a.problem == "place-taken"
    client.delete("g", g["etag"])
    assert client.patch("d", d["etag"], {"name": "e", "replaces": {"id": "e", "etag": e["etag"]}}).status == 200


def test_swap_exchanges_places(client):
    client.mkdir("d", "d")
    a, b = client.make("a", "a", b"A", parent="d"), client.make("b", "b", b"B")
    r = client.patch("a", a["etag"], {"swap": {"id": "b", "etag": b["etag"]}})
    assert r.status == 200 and (r.json["parent"], r.json["name"]) == ("root", "b")
    assert r.json["swapped"]["parent"] == "d" and r.json["swapped"]["name"] == "a"
    assert client.get("a").body == b"A" and client.get("b").record["name"] == "a"
    assert client.patch("a", r.json["etag"], {"swap": {"id": "b", "etag": b["etag"]}}).status == 412
    assert client.patch("a", r.json["etag"], {"swap": {"id": "a", "etag": r.json["etag"]}}).status == 400
    assert client.patch("a", r.json["etag"], {
        "name": "q", "swap": {"id": "b", "etag": r.json["swapped"]["etag"]}}).status == 400


def test_a_directory_does_not_move_below_itself(client):
    top = client.mkdir("top", "top")
    client.mkdir("mid", "mid", parent="top")
    low = client.mkdir("low", "low", parent="mid")
    for target in ("top", "mid", "low"):
        assert client.patch("top", top["etag"], {"parent": target}).problem == "loop"
    assert client.patch("top", top["etag"], {"swap": {"id": "low", "etag": low["etag"]}}).problem == "loop"
    assert client.patch("low", low["etag"], {"swap": {"id": "top", "etag": top["etag"]}}).problem == "loop"
    assert client.patch("low", low["etag"], {"parent": "root"}).status == 200
    assert client.patch("top", top["etag"], {"parent": "low"}).status == 200


def test_place_and_parent_errors(client):
    f = client.make("f", "f")
    taken = client.put("g", b"", name="f")
    assert taken.status == 409 and taken.problem == "place-taken" and taken.json["record"]["id"] == "f"
    assert client.put("g", b"", name="g", parent="nope").problem == "no-parent"
    assert client.put("g", b"", name="g", parent="f").problem == "not-a-directory"
    d = client.mkdir("d", "d")
    client.delete("d", d["etag"])
    assert client.put("g", b"", name="g", parent="d").problem == "no-parent"
    assert client.patch("f", f["etag"], {"parent": "nope"}).problem == "no-parent"


def test_delete_is_conditional_and_final(client):
    x = client.make("x", "x")
    assert client.delete("x", None).problem == "precondition-required"
    assert client.delete("x", '"other"').status == 412
    tomb = client.delete("x", x["etag"])
    assert tomb.status == 200
    again = client.delete("x", x["etag"])
    assert again.status == 412 and again.json["record"] == tomb.json
    assert client.delete("nope", '"1"').problem == "no-record"
    a = client.put("x", b"back", name="x")
    assert a.status == 412 and a.json["record"]["deleted"]
    d = client.mkdir("d", "d")
    client.make("in", "in", parent="d")
    a = client.delete("d", d["etag"])
    assert a.problem == "not-empty" and a.json["record"] == d


def test_the_root_cannot_be_changed(client):
    for a in (client.delete("root", '"root"'), client.patch("root", '"root"', {"mode": 1}),
              client.put("root", b"", name="x")):
        assert a.status == 400 and a.problem == "bad-request"


def test_a_put_without_precondition_is_428_before_its_body_is_read(server):
    head = (f"PUT /v1/stores/main/records/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
            f"Idempotency-Key: {new_key()}\r\nCachet-Parent: root\r\nCachet-Name: x\r\n"
            "Content-Length: 1000000000\r\n\r\n")
    assert server.raw(head.encode(), timeout=5).startswith(b"HTTP/1.1 428 ")


# ---- exactly once ----

def test_a_repeated_key_gives_the_same_answer_and_changes_nothing(client):
    key = new_key()
    first = client.put("x", b"one", name="x", key=key)
    again = client.put("x", b"one", name="x", key=key)
    assert (again.status, again.body) == (first.status, first.body) and again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cachet-Replayed"] == "true" and "Cachet-Replayed" not in first.headers
    second = client.put("x", b"two", match=first.json["etag"])
    assert client.put("x", b"one", name="x", key=key).body == first.body
    assert client.get("x").body == b"two"
    key = new_key()
    gone = client.delete("x", second.json["etag"], key=key)
    assert client.delete("x", second.json["etag"], key=key).body == gone.body


@pytest.mark.parametrize("size", [10, 40_000])
def test_a_key_for_another_request_is_refused(server, client, size):
    key = new_key()
    client.put("x", b"1" * size, name="x", key=key)
    for other in (client.put("x", b"2" * size, name="x", key=key), client.put("y", b"1" * size, name="x", key=key),
                  client.put("x", b"1" * size, name="y", key=key), client.delete("x", '"1"', key=key)):
        assert other.status == 422 and other.problem == "key-reused"
    assert len(client.everything()[0]) == 1
    eventually(lambda: len(files_in(server)) == (size > 16384))


def test_412_is_remembered_and_other_refusals_are_not(client):
    x = client.make("x", "x")
    key = new_key()
    first = client.put("x", b"n", match='"stale"', key=key)
    assert first.status == 412
    client.put("x", b"other", match=x["etag"])
    again = client.put("x", b"n", match='"stale"', key=key)
    assert again.body == first.body and again.headers["Cachet-Replayed"] == "true"
    key = new_key()
    assert client.put("z", b"", name="z", parent="later", key=key).status == 409
    client.mkdir("later", "later")
    a = client.put("z", b"", name="z", parent="later", key=key)
    assert a.status == 201 and "Cachet-Replayed" not in a.headers


def test_keys_of_accounts_do_not_meet(server, client):
    key = new_key()
    client.put("x", b"1", name="x", key=key)
    other = server.client(server.new_token(account="somebody"))
    a = other.put("y", b"2", name="y", key=key)
    assert a.status == 201 and "Cachet-Replayed" not in a.headers


def test_the_same_key_at_once_from_many_connections_is_applied_once(server):
    key, answers = new_key(), []

    def send():
        c = server.client()
        answers.append(c.put("x", b"same" * 5000, name="x", key=key))
        c.close()

    threads = [threading.Thread(target=send) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {a.status for a in answers} == {201} and len({a.body for a in answers}) == 1
    assert sum("Cachet-Replayed" not in a.headers for a in answers) == 1
    assert server.client().call("GET", "/v1/stores").json["stores"][0]["records"] == 1
    eventually(lambda: len(files_in(server)) == 1)


def test_a_key_sent_alone_is_recognised_in_a_batch(client):
    key = new_key()
    first = client.put("x", b"one", name="x", key=key)
    a = client.batch([op_put("x", "x", b"one", key=key)])
    assert a.json["results"][0] == {"status": 201, "replayed": True, "record": first.json}


def test_keys_survive_a_restart(server, client):
    key = new_key()
    first = client.put("x", b"one", name="x", key=key)
    client.close()
    server.stop()
    server.start()
    again = client.put("x", b"one", name="x", key=key)
    assert again.body == first.body and again.headers["Cachet-Replayed"] == "true"


def test_last_seq_is_the_highest_this_device_sent(server):
    c = server.client(device=new_key())
    c.put("a", b"", name="a")
    c.put("a", b"", name="a")  # 412: it was sent all the same
    c.seq = 40
    c.patch("a", c.get("a").headers["ETag"], {"mode": 1})
    c.seq = 10
    c.batch([op_put("b", "b", seq=30)], Cachet_Device=c.device)
    assert c.call("GET", "/v1", headers={"Cachet-Device": c.device}).json["last_seq"] == 41
    assert c.call("GET", "/v1", headers={"Cachet-Device": new_key()}).json["last_seq"] == 0
    other = server.client(server.new_token(account="b"))
    assert other.call("GET", "/v1", headers={"Cachet-Device": c.device}).json["last_seq"] == 0


# ---- batch ----

def test_batch_executes_in_order_with_an_answer_for_each(client):
    gone = client.make("gone", "gone")
    a = client.batch([
        op_put("d", "d", kind="dir"),
        op_put("f", "f", b"body", parent="d", mode=0o600, mtime_ns="5"),
        {"op": "patch", "id": "f", "key": new_key(), "if_match": '"stale"', "name": "g"},
        {"op": "delete", "id": "gone", "key": new_key(), "if_match": gone["etag"]},
        op_put("big", "big", b"B" * 100_000),
    ])
    assert a.status == 200
    r = a.json["results"]
    assert [x["status"] for x in r] == [201, 201, 412, 200, 201]
    assert r[1]["record"]["parent"] == "d" and r[1]["record"]["mode"] == 0o600
    assert r[2]["problem"]["type"] == "urn:cachet:precondition" and r[2]["problem"]["record"]["id"] == "f"
    assert r[3]["record"]["deleted"] and client.get("big").body == b"B" * 100_000


def test_what_comes_after_a_failed_operation_is_not_tried(client):
    a = client.batch([
        op_put("a", "a", parent="nope"),
        op_put("b", "b", after=[0]),
        op_put("c", "c", after=[1]),
        op_put("d", "d"),
        op_put("e", "e", after=[3]),
    ])
    assert [x["status"] for x in a.json["results"]] == [409, 424, 424, 201, 201]
    assert a.json["results"][1]["problem"]["type"] == "urn:cachet:dependency"


@pytest.mark.parametrize("broken", [
    {"op": "move"}, {"op": 5}, {"id": "a/b"}, {"id": None}, {"key": "short"}, {"key": None}, {"seq": "x"}, {"seq": -1},
    {"if_none_match": '"x"'}, {"if_match": "x"}, {"if_match": '"1"'}, {"after": [5]}, {"after": [0]}, {"after": "0"},
    {"after": [-1]}, {"content": "***"}, {"content": 5}, {"mode": 4096}, {"mode": "x"}, {"mode": 1.5}, {"mtime_ns": "1.5"},
    {"kind": "pipe"}, {"kind": 2}, {"name": 5}, {"parent": "a b"}, {"replaces": "x"}, {"replaces": {"id": "x"}},
    {"replaces": {"id": "x", "etag": "y"}}, {"swap": {"id": "x", "etag": '"1"'}},
])
def test_a_broken_operation_is_refused_alone(client, broken):
    op = op_put("bad", "bad", b"")
    op.update(broken)
    a = client.batch([op, op_put("good", "good")])
    assert a.status == 200, a
    assert [x["status"] for x in a.json["results"]] == [400, 201], a
    assert list(client.everything()[0]) == ["good"]


def test_operation_without_precondition_or_name(client):
    no_condition, no_name = op_put("a", "a"), op_put("b", "b")
    del no_condition["if_none_match"], no_name["name"]
    a = client.batch([no_condition, no_name, "text", op_put("c", "x/y")])
    assert [x["status"] for x in a.json["results"]] == [428, 400, 400, 400]
    assert a.json["results"][3]["problem"]["type"] == "urn:cachet:bad-name"


def test_batch_limits(client):
    a = client.batch([op_put(f"r{i}", f"r{i}") for i in range(1001)])
    assert a.status == 413 and a.problem == "too-large" and "max_batch" in a.json["detail"]
    assert client.batch([]).json == {"results": []}
    for bad in (b"", b"{", b"[]", b'{"ops":{}}', b'{"ops":[],"ops":[]}', b'{"ops":[]} x', b'\xff{"ops":[]}',
                b'{"ops":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        a = client.call("POST", "/v1/stores/main/batch", bad)
        assert a.status == 400 and a.problem == "bad-request", bad
    assert client.everything()[0] == {}


# ---- the feed ----

def test_feed_gives_each_record_once_at_its_latest_state(client):
    for i in range(7):
        client.make(f"r{i}", f"r{i}")
    e = client.get("r2").headers["ETag"]
    client.patch("r2", e, {"name": "renamed"})
    client.delete("r3", client.get("r3").headers["ETag"])
    seen, cursor = [], ""
    while True:
        page = client.changes(cursor, limit=2).json
        seen += page["changes"]
        cursor = page["cursor"]
        if not page["more"]:
            break
    ids = [r["id"] for r in seen if not r.get("deleted")]
    assert ids == ["r0", "r1", "r4", "r5", "r6", "r2"] and page["records"] == 6
    assert [r["seq"] for r in seen] == sorted(r["seq"] for r in seen)
    assert client.changes(cursor).json["changes"] == []


def test_feed_entries_carry_the_key_that_made_them(client):
    _, cursor = client.everything()
    key = new_key()
    a = client.put("x", b"", name="x", key=key)
    entry = client.changes(cursor).json["changes"][0]
    assert entry["key"] == key and entry["seq"] == a.json["seq"]
    key = new_key()
    client.delete("x", a.json["etag"], key=key)
    tomb = client.changes(cursor).json["changes"][0]
    assert tomb["deleted"] and tomb["key"] == key
    assert set(tomb) == {"id", "parent", "name", "kind", "seq", "etag", "deleted", "key"}


def test_bad_cursors(server, client):
    _, cursor = client.everything()
    for bad in ("x", "1", "%00", "1.2", "zz.1.1", cursor + "x", "-1.1.1"):
        assert client.changes(bad).problem == "bad-request", bad
    tag, seq, base, queries = cursor.split(".")
    assert client.changes(f"{tag}.{seq}.{base}").json["cursor"] == cursor  # as servers of before gave them
    for gone, problem in ((f"{int(tag, 16) ^ 1:08x}.{seq}.{base}.{queries}", "cursor-gone"),
                          (f"{tag}.{int(seq) + 1}.{base}.{queries}", "cursor-ahead")):
        a = client.changes(gone)
        assert a.status == 410 and a.problem == problem
    for q in ({"limit": "0"}, {"limit": "x"}, {"wait": "-1"}, {"wait": "1e3"}):
        assert client.changes(cursor, **q).problem == "bad-request", q
    assert client.call("GET", "/v1/stores/main/changes?limit=1&limit=2").problem == "bad-request"


def test_a_cursor_from_before_a_forgotten_tombstone_is_gone_and_a_new_start_is_not(server, client):
    for i in range(6):
        client.make(f"r{i}", f"r{i}")
    _, old = client.everything()
    client.delete("r5", client.get("r5").headers["ETag"])
    client.close()
    server.stop()
    subprocess.run(["sqlite3", str(server.dir / "records.db"),
                    "DELETE FROM records WHERE deleted = 1; UPDATE stores SET purged_seq = 7"], check=True)
    server.start()
    assert client.changes(old).problem == "cursor-gone"
    # A listing that began after the forgetting goes on page by page, though its pages are older than the tombstone.
    page = client.changes("", limit=2).json
    ids = [r["id"] for r in page["changes"]]
    while page["more"]:
        page = client.changes(page["cursor"], limit=2).json
        ids += [r["id"] for r in page["changes"]]
    assert ids == ["r0", "r1", "r2", "r3", "r4"]


def test_long_poll_returns_when_something_changes(server, client):
    _, cursor = client.everything()
    waiter, got = server.client(), []
    t = threading.Thread(target=lambda: got.append((waiter.changes(cursor, wait=30), time.monotonic())))
    t.start()
    time.sleep(0.5)
    assert not got
    at = time.monotonic()
    client.make("x", "x")
    t.join(10)
    assert got and got[0][1] - at < 5 and [r["id"] for r in got[0][0].json["changes"]] == ["x"]


def test_long_poll_ends_empty_when_its_time_is_over(client):
    _, cursor = client.everything()
    at = time.monotonic()
    a = client.changes(cursor, wait=1)
    assert a.json["changes"] == [] and a.json["cursor"] == cursor and 0.9 < time.monotonic() - at < 10


def test_long_poll_sees_what_another_process_wrote(server, client, tmp_path):
    _, cursor = client.everything()
    src = tmp_path / "src"
    src.mkdir()
    (src / "f").write_text("x")
    got = []
    t = threading.Thread(target=lambda: got.append(client.changes(cursor, wait=30)))
    t.start()
    time.sleep(0.3)
    server.import_tree(src)
    t.join(10)
    assert got and [r["name"] for r in got[0].json["changes"]] == ["f"]


def test_200_long_pollers_all_hear_of_a_change(server, client):
    _, cursor = client.everything()
    clients = [server.client() for _ in range(200)]
    path = f"/v1/stores/main/changes?since={cursor}&wait=50"
    for c in clients:
        c.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        c.connection.request("GET", path, headers={"Authorization": "Bearer " + server.token})
    time.sleep(0.5)
    client.make("x", "x")
    for c in clients:
        assert b'"id":"x"' in c.connection.getresponse().read()
        c.close()


def test_it_stops_while_its_threads_are_at_work(tmp_path):
    """libmicrohttpd, asked to accept no more, ended the process in one of some hundred stops."""
    server, over = Server(tmp_path).start(), threading.Event()

    def ask():
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
                for _ in range(20):
                    c.request("GET", "/v1")
                    c.getresponse().read()
                c.close()

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for t in askers:
        t.start()
    try:
        for _ in range(30):
            time.sleep(0.02)
            server.stop()
            server.start()
    finally:
        over.set()
        for t in askers:
            t.join()
    server.close()


def test_stop_answers_long_polls_and_ends(server, client):
    _, cursor = client.everything()
    got = []
    t = threading.Thread(target=lambda: got.append(client.changes(cursor, wait=60)))
    t.start()
    time.sleep(0.3)
    at = time.monotonic()
    server.stop()
    t.join(5)
    assert got and got[0].status == 200 and got[0].json["changes"] == [] and time.monotonic() - at < 5
    server.start()


# ---- who may ----

def test_without_a_valid_token_everything_is_401(server):
    c = server.client()
    for auth in (None, "", "Bearer", "Bearer ", "Bearer x", "Basic " + server.token, "Bearer " + server.token[:-1],
                 "Bearer " + server.token + "0", "Bearer cachet_" + "0" * 64):
        for method, path in (("GET", "/v1"), ("GET", "/v1/stores"), ("GET", c.url("x")), ("PUT", c.url("x")),
                             ("PATCH", c.url("x")), ("DELETE", c.url("x")), ("GET", "/v1/stores/main/changes"),
                             ("POST", "/v1/stores/main/batch"), ("POST", "/v1/stores/main/get"), ("GET", "/x")):
            a = c.call(method, path, headers={"Authorization": auth})
            if a.status == 429:  # so many bad ones from one address
                assert a.problem == "too-many" and int(a.headers["Retry-After"]) > 0, (method, path)
            else:
                assert a.status == 401 and a.problem == "unauthorized" and a.headers["WWW-Authenticate"], (method, path)


def test_read_only_and_single_store_tokens(server, client):
    server.admin("store", "add", "other", str(server.dir))
    x = client.make("x", "x")
    ro = server.client(server.new_token("--read-only"))
    assert ro.get("x").status == 200
    assert ro.call("POST", "/v1/stores/main/get", {"ids": ["x"]}).status == 200
    assert ro.call("GET", "/v1/stores").json["stores"][0]["mode"] == "ro"
    for a in (ro.put("y", b"", name="y"), ro.patch("x", x["etag"], {"mode": 1}), ro.delete("x", x["etag"]),
              ro.batch([op_put("y", "y")])):
        assert a.status == 403 and a.problem == "forbidden"
    one = server.client(server.new_token("--store", "other"))
    assert [s["id"] for s in one.call("GET", "/v1/stores").json["stores"]] == ["other"]
    for store in ("main", "doesnotexist"):
        for path in ("records/x", "changes"):
            a = one.call("GET", f"/v1/stores/{store}/{path}")
            assert a.status == 403 and a.problem == "forbidden"
    one.store = "other"
    assert one.put("y", b"", name="y").status == 201


def test_tokens_are_not_in_the_data_directory(server, client):
    client.make("x", "x")
    secret = server.token.removeprefix("cachet_")
    for p in server.dir.rglob("*"):
        if p.is_file():
            data = p.read_bytes()
            for form in (secret.encode(), bytes.fromhex(secret), base64.b64encode(bytes.fromhex(secret))[:40]):
                assert form not in data, p
    assert secret not in server.log.read_text()


# ---- bad input ----

BAD_NAMES = [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"n" * 256, b"n" * 300,
             "é".encode() * 128]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(12))
def test_bad_names_are_refused_everywhere(client, name):
    a = client.put("x", b"data", name=name)
    assert a.status == 400 and a.problem == "bad-name"
    made = client.make("y", "good")
    if b"\0" not in name and name.decode("utf-8", "ignore").encode() == name:
        assert client.patch("y", made["etag"], {"name": name.decode()}).problem == "bad-name"
    assert [r["name"] for r in client.everything()[0].values()] == ["good"]


@pytest.mark.parametrize("name", ["a b", "%", "a%", "%2", "%zz", "a\x7fb", 'q"q', "a+b", "\u00e9"])
def test_names_that_are_not_percent_encoded_are_refused(client, name):
    a = client.call("PUT", client.url("x"), b"", {
        "Idempotency-Key": new_key(), "If-None-Match": "*", "Cachet-Parent": "root",
        "Cachet-Name": name.encode("utf-8").decode("latin-1")})
    # A control character is refused with the whole header already.
    assert a.status == 400 and a.problem == ("bad-request" if "\x7f" in name else "bad-name")


@pytest.mark.parametrize("name", ["a b", "é", "日本語.txt", "😀", 'q"\\', "tab\tnew\nline", "\x01\x7f", "n" * 255,
                                  "...", " ", "~._-", "%2F", "\u2028"])
def test_odd_but_legal_names_come_back_unchanged(client, name):
    made = client.make("x", name)
    assert made["name"] == name and client.get("x").record["name"] == name
    assert client.get("x").headers["Cachet-Record"].isascii()
    assert client.everything()[0]["x"]["name"] == name


@pytest.mark.parametrize("headers", [
    {"Idempotency-Key": None}, {"Idempotency-Key": "x"}, {"Idempotency-Key": "0" * 33}, {"Cachet-Parent": None},
    {"Cachet-Name": None}, {"Cachet-Parent": "a/b"}, {"Cachet-Parent": ""}, {"Cachet-Kind": "fifo"}, {"Cachet-Mode": "4096"},
    {"Cachet-Mode": "0o644"}, {"Cachet-Mode": "-1"}, {"Cachet-Mtime-Ns": "1.0"}, {"Cachet-Mtime-Ns": "9" * 30},
    {"Cachet-Device": "x"}, {"Cachet-Seq": "1"}, {"Cachet-Device": "0" * 32, "Cachet-Seq": "x"},
    {"Cachet-Replaces": "x"}, {"Cachet-Replaces": "x y"}, {"Cachet-Replaces": 'x/y "1"'}, {"If-None-Match": '"x"'},
    {"If-Match": '"x"'}, {"If-None-Match": None, "If-Match": "x"}, {"If-None-Match": None, "If-Match": '"' + "e" * 600 + '"'},
    {"Cachet-Kind": "dir"},
])
def test_bad_headers_of_a_put_are_refused(server, client, headers):
    h = {"Idempotency-Key": new_key(), "If-None-Match": "*", "Cachet-Parent": "root", "Cachet-Name": "x"}
    h.update(headers)
    a = client.call("PUT", client.url("x"), b"content", h)
    assert a.status == 400 and a.problem == "bad-request", a
    assert client.everything()[0] == {} and not files_in(server)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"5", b'"x"', b'{"name":"a","name":"b"}', b'{"name":"\\u0000"}', b"{} {}",
                                  b'{"name":', b'{"name":"a\xff"}', b'{"mode":"rw"}', b'{"mode":-1}', b'{"parent":7}',
                                  b'{"replaces":7}', b'{"swap":{}}', b'{"mtime_ns":"x"}'])
def test_bad_patch_bodies_are_refused(client, body):
    made = client.make("x", "x")
    a = client.patch("x", made["etag"], body)
    assert a.status == 400 and a.problem == "bad-request"
    assert client.get("x").headers["ETag"] == made["etag"]


def test_unknown_methods_and_addresses(client):
    for method, path, allow in (("POST", client.url("x"), "OPTIONS, GET, HEAD, PUT, PATCH, DELETE"), ("PUT", "/v1", "OPTIONS, GET, HEAD"),
                                ("BREW", "/v1/stores", "OPTIONS, GET, HEAD"), ("TRACE", "/v1", "OPTIONS, GET, HEAD"),
                                ("GET", "/v1/stores/main/batch", "OPTIONS, POST"), ("DELETE", "/v1/stores/main/changes", "OPTIONS, GET, HEAD")):
        a = client.call(method, path)
        assert a.status == 405 and a.problem == "method" and a.headers["Allow"] == allow
    for path in ("/", "/v2", "/v1/", "/v1//stores", "/v1/stores/main", "/v1/stores/main/records", "/v1/stores/main/records/x/y",
                 "/v1/stores/../../etc/passwd", "/v1/%73tores", "//v1"):
        a = client.call("GET", path)
        assert a.status == 404 and a.problem == "no-resource", path
    for store in ("nope", "..", "%2e%2e", "a%2fb", "%00", "a" * 65, "main%00"):
        assert client.call("GET", f"/v1/stores/{store}/changes").problem == "no-store", store
    for rid in ("..", "%2e%2e", "a%2f..%2fb", "%00", "a" * 65, "x%00", "%zz", "a" * 300):
        assert client.call("GET", f"/v1/stores/main/records/{rid}").problem == "bad-request", rid


def head_of(server, method="GET", path="/v1", *lines):
    return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
            + "".join(line + "\r\n" for line in lines) + "\r\n").encode()


PUT_LINES = ("If-None-Match: *", "Cachet-Parent: root", "Cachet-Name: x", "Idempotency-Key: " + "1" * 32)


@pytest.mark.parametrize("lines, status", [
    (("Content-Length: 5", "Transfer-Encoding: chunked"), 400),
    (("Content-Length: 5", "Content-Length: 6"), 400),
    (("Content-Length: 5", "Content-Length: 5"), 400),
    (("Content-Length: -5",), 400),
    (("Content-Length: 5x",), 400),
    (("Content-Length: 99999999999999999999999",), 413),
    (("Content-Length: 17179869185",), 413),
    (("Transfer-Encoding: gzip",), 411),
    (("Transfer-Encoding: gzip, chunked",), 411),
    (("Content-Length: 3", "Content-Encoding: gzip"), 415),
    (("Content-Length: 3", "Cachet-Name: y"), 400),
    (("Content-Length: 3", "Authorization: Bearer x"), 400),
    (("Content-Length: 3", "Host: y"), 400),
    (tuple(f"X-{i}: {i}" for i in range(70)), 431),
    (("X-Long: " + "l" * 20000,), 431),
    (("Content-Length: 3", "Transfer-Encoding : chunked"), 400),
    (("Content-Length: 3", "Transfer-Encoding\t: chunked"), 400),
    (("Content-Length: 3", "Cachet-Mode\x01: 1"), 400),
    (("Content-Length: 3", "X: a\x01b"), 400),
    (("Content-Length: 3", "X: a\x7f"), 400),
], ids=range(20))
def test_conflicting_and_oversized_headers(server, client, lines, status):
    out = server.raw(head_of(server, "PUT", "/v1/stores/main/records/x", *PUT_LINES, *lines) + b"abc", timeout=3)
    assert out.startswith(b"HTTP/1.1 %d " % status), out[:200]
    assert client.everything()[0] == {}


def test_host_is_needed_and_addresses_have_a_bound(server):
    out = server.raw(f"GET /v1 HTTP/1.1\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode(), timeout=2)
    assert out.startswith(b"HTTP/1.1 400 ")
    out = server.raw(head_of(server, "GET", "/v1/" + "a" * 5000), timeout=2)
    assert out.startswith(b"HTTP/1.1 414 ") and b"urn:cachet:uri-too-long" in out


@pytest.mark.parametrize("junk", [b"\r\n\r\n", b"GET\r\n\r\n", b"\0" * 100, b"GET /v1 HTTP/9.9\r\n\r\n", os.urandom(2000),
                                  b"A" * 300_000, b"GET /v1 HTTP/1.1\r\nno colon here\r\n\r\n",
                                  b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)], ids=range(8))
def test_what_is_not_http_does_not_hurt(server, client, junk):
    server.raw(junk, timeout=1, shut=True)
    assert client.call("GET", "/v1").status == 200


def test_mutated_requests_do_not_hurt(server, client):
    """Bytes of valid requests are changed, cut and doubled; whatever comes of it, the server lives and the tree is sound."""
    import random
    rng = random.Random(int(os.environ.get("CACHET_SEED", "1")))
    made = client.make("seed", "seed")
    batch = b'{"ops":[{"op":"put","id":"m","key":"' + b"2" * 32 + b'","if_none_match":"*","parent":"root","name":"m","content":"aGk="}]}'
    patch = b'{"name":"moved","mode":384}'
    whole = [
        head_of(server, "PUT", "/v1/stores/main/records/x", *PUT_LINES, "Content-Length: 5") + b"hello",
        head_of(server, "PUT", "/v1/stores/main/records/x", *PUT_LINES, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        head_of(server, "POST", "/v1/stores/main/batch", f"Content-Length: {len(batch)}") + batch,
        head_of(server, "PATCH", "/v1/stores/main/records/seed", f'If-Match: {made["etag"]}', "Idempotency-Key: " + "3" * 32,
                f"Content-Length: {len(patch)}") + patch,
        head_of(server, "GET", "/v1/stores/main/changes?since=&limit=10"),
        head_of(server, "GET", "/v1/stores/main/records/seed", "Range: bytes=0-3", 'If-Match: "a", "b"'),
    ]
    for _ in range(400):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 4)):
            at, n = rng.randrange(len(data)), rng.randint(1, 20)
            what = rng.random()
            if what < 0.5:
                data[at] = rng.randrange(256)
            elif what < 0.7:
                del data[at:at + n]
            elif what < 0.9:
                data[at:at] = data[at:at + n] * rng.randint(1, 50)
            else:
                data[at:at] = bytes(rng.randrange(256) for _ in range(n))
            data = data or bytearray(b"x")
        out = server.raw(bytes(data), timeout=0.2, shut=True)
        assert not out or out.startswith(b"HTTP/1."), out[:100]
        assert b"HTTP/1.1 500" not in out, (bytes(data), out)
    records, _ = client.everything()
    assert len({(r["parent"], r["name"]) for r in records.values()}) == len(records)
    assert client.call("GET", "/v1/stores").json["stores"][0]["records"] == len(records)


def test_a_body_on_a_request_without_one_is_refused(client):
    a = client.call("GET", "/v1", b"body")
    assert a.status == 400 and a.problem == "bad-request"
    assert client.call("DELETE", client.url("x"), b"x", {"If-Match": '"1"'}).problem == "bad-request"


def test_a_refused_request_leaves_its_connection_usable(client):
    for _ in range(3):
        assert client.put("x", b"b" * 100_000, name="x/y").status == 400
        connection = client.connection
        assert client.call("GET", "/v1").status == 200 and connection is client.connection


@pytest.fixture
def small(tmp_path):
    s = Server(tmp_path, "--max-record-bytes", "1000000", "--max-request-bytes", "50000", "--header-timeout", "2",
               "--body-grace", "2").start()
    yield s
    s.close()


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(small):
    c = small.client()
    assert c.put("ok", b"o" * 1_000_000, name="ok").status == 201
    lines = PUT_LINES + ("Content-Length: 1000001",)
    out = small.raw(head_of(small, "PUT", c.url("x"), *lines), timeout=3)
    assert out.startswith(b"HTTP/1.1 413 ") and b"max_record_bytes" in out
    lines = ("Content-Length: 50001",)
    out = small.raw(head_of(small, "POST", "/v1/stores/main/batch", *lines) + b" " * 50001, timeout=3)
    assert out.startswith(b"HTTP/1.1 413 ") and b"max_request_bytes" in out


@pytest.mark.parametrize("method, path", [("PUT", "/v1/stores/main/records/x"), ("POST", "/v1/stores/main/batch")])
def test_an_endless_chunked_body_is_ended_with_413(small, method, path):
    lines = PUT_LINES + ("Transfer-Encoding: chunked",)
    data = head_of(small, method, path, *lines) + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 200
    out = small.raw(data, timeout=5)
    assert out.startswith(b"HTTP/1.1 413 "), out[:100]
    assert small.client().everything()[0] == {}
    eventually(lambda: not files_in(small))


def test_a_body_that_ends_early_stores_nothing(small):
    lines = PUT_LINES + ("Content-Length: 100000",)
    out = small.raw(head_of(small, "PUT", "/v1/stores/main/records/x", *lines) + b"z" * 50_000, timeout=2, shut=True)
    assert b" 201 " not in out
    assert small.client().everything()[0] == {}
    eventually(lambda: not files_in(small))


def test_slow_headers_are_ended(small):
    import socket
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as s:
        s.sendall(b"GET /v1 HTTP/1.1\r\n")
        at, ended = time.monotonic(), False
        while not ended and time.monotonic() - at < 15:
            try:
                s.sendall(b"X: y\r\n")
                s.settimeout(0.3)
                ended = s.recv(100) == b""
            except TimeoutError:
                pass
            except OSError:
                ended = True
        assert ended and time.monotonic() - at < 15


def test_slow_bodies_are_ended(small):
    import socket
    with socket.create_connection(("127.0.0.1", small.port), timeout=20) as s:
        s.sendall(head_of(small, "PUT", "/v1/stores/main/records/x", *PUT_LINES, "Content-Length: 1000"))
        at, out = time.monotonic(), b""
        while time.monotonic() - at < 15:
            try:
                s.sendall(b"b")
                s.settimeout(0.2)
                out += s.recv(10000)
                break
            except TimeoutError:
                pass
            except OSError:
                break
        assert time.monotonic() - at < 15 and (not out or out.startswith(b"HTTP/1.1 408 "))
    c = small.client()
    assert c.everything()[0] == {}


def test_silent_connections_do_not_keep_others_out(small):
    import socket
    idle = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(300)]
    assert small.client().call("GET", "/v1").status == 200
    for s in idle:
        s.close()


# ---- the directory ----

def test_plain_http_is_for_loopback_only(server):
    r = subprocess.run([*command(), str(server.home / "other"), "--listen", "0.0.0.0:0"], capture_output=True, text=True,
                       timeout=10)
    assert r.returncode != 0 and "loopback" in r.stderr


def test_a_second_server_on_the_same_directory_is_refused(server):
    r = subprocess.run([*command(), str(server.dir), "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=10)
    assert r.returncode != 0 and "another server" in r.stderr


def test_an_address_in_use_is_exit_code_8(server):
    r = subprocess.run([*CACHET, str(server.home / "other"), "--listen", f"127.0.0.1:{server.port}"], capture_output=True,
                       text=True, timeout=10)
    assert r.returncode == 8 and "cannot listen" in r.stderr


def test_a_foreign_or_newer_database_is_refused(server):
    server.stop()
    db = sqlite3.connect(server.dir / "records.db")
    version, = db.execute("PRAGMA user_version").fetchone()
    db.execute("PRAGMA user_version=99")
    r = subprocess.run([*command(), str(server.dir), "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=10)
    assert r.returncode != 0 and "newer" in r.stderr
    db.execute(f"PRAGMA user_version={version}")
    db.close()
    server.start()


def test_a_database_of_version_4_goes_on(server, client):
    """As a server of before left it: its records, tokens, cursors and audit log are good."""
    client.make("x", "x", b"kept")
    _, cursor = client.everything()
    client.close()
    server.stop()
    db = sqlite3.connect(server.dir / "records.db")
    db.executescript("ALTER TABLE audit_head DROP COLUMN base_n; ALTER TABLE audit_head DROP COLUMN base_hash;"
                     "ALTER TABLE stores DROP COLUMN queries_seq; DROP INDEX keks_dkid; PRAGMA user_version = 4")
    db.close()
    server.start()
    client.port = server.port
    assert client.get("x").body == b"kept"
    assert client.changes(cursor.rsplit(".", 1)[0]).json["changes"] == []
    assert b"as they were written" in subprocess.run([*CACHET, "audit", "--verify", str(server.dir)], check=True,
                                                     capture_output=True).stdout


def test_left_over_files_are_removed_at_start(server, client):
    client.make("x", "x", b"k" * 50_000)
    server.stop()
    kept = files_in(server)
    (server.dir / "tmp" / ("ab" * 16)).write_bytes(b"orphan")
    (server.dir / "content" / "cd" / ("cd" * 16)).write_bytes(b"orphan")
    (server.dir / "content" / "cd" / "README").write_bytes(b"not ours")
    server.start()
    assert set(files_in(server)) == set(kept) | {server.dir / "content" / "cd" / "README"}
    client.close()
    assert client.get("x").body == b"k" * 50_000


def test_an_open_download_keeps_its_version_when_the_record_is_replaced(server, client):
    old = os.urandom(8 * MIB)
    etag = client.make("x", "x", old)["etag"]
    reader = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    reader.request("GET", client.url("x"), headers={"Authorization": "Bearer " + server.token})
    r = reader.getresponse()
    first = r.read(1000)
    assert client.put("x", b"new", match=etag).status == 200
    eventually(lambda: not files_in(server))
    assert first + r.read() == old


def test_tls(tmp_path):
    import ssl
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "k", "-out", tmp_path / "c",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                   capture_output=True)
    s = Server(tmp_path, "--tls-cert", str(tmp_path / "c"), "--tls-key", str(tmp_path / "k")).start()
    try:
        c = s.client()
        c.connection = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=10,
                                                   context=ssl.create_default_context(cafile=str(tmp_path / "c")))
        content = os.urandom(300_000)
        c.make("x", "x", content)
        assert c.get("x").body == content
        for first, last in ((0, 99_999), (65_535, 299_999), (100, 65_635), (299_999, 299_999)):
            assert c.get("x", Range=f"bytes={first}-{last}").body == content[first:last + 1]
        c.close()
    finally:
        s.close()


# ---- import ----

def make_tree(top, files):
    for i in range(files):
        d = top / f"d{i % 20}" / f"e{i % 7}"
        d.mkdir(parents=True, exist_ok=True)
        (d / f"file {i}.json").write_text(f'{{"n": {i}}}' * (i % 5 + 1))
    (top / "big").write_bytes(os.urandom(3 * MIB))
    (top / "link").symlink_to("d0/e0")
    os.mkfifo(top / "pipe")
    with open(os.fsencode(top) + b"/bad\xff", "w"):
        pass


def tree_of(client):
    records, _ = client.everything()

    def path(r):
        return r["name"] if r["parent"] == "root" else path(records[r["parent"]]) + "/" + r["name"]
    return {path(r): r for r in records.values()}


def test_import_of_2000_files_and_again_only_what_differs(server, client, tmp_path):
    top = tmp_path / "src"
    top.mkdir()
    make_tree(top, 2000)
    files, dirs, links, size, skipped = server.import_tree(top)
    assert (files, dirs, links, skipped) == (2001, 160, 1, 2) and size > 3 * MIB
    tree = tree_of(client)
    assert len(tree) == 2162
    for p in top.rglob("*"):
        st = p.lstat()
        if stat.S_ISFIFO(st.st_mode) or b"\xff" in os.fsencode(p):
            continue
        r = tree[str(p.relative_to(top))]
        assert int(r["mtime_ns"]) == st.st_mtime_ns and r["mode"] == stat.S_IMODE(st.st_mode)
        if p.is_symlink():
            assert r["kind"] == "symlink"
        elif p.is_file():
            assert r["sha256"] == sha(p.read_bytes())
    _, cursor = client.everything()
    assert server.import_tree(top) == (0, 0, 0, 0, 2)
    assert client.changes(cursor).json["changes"] == []
    (top / "big").write_bytes(b"smaller now")
    (top / "link").unlink()
    (top / "link").write_text("a file now")
    assert server.import_tree(top)[0] == 2
    changed = client.changes(cursor).json["changes"]
    assert sorted((r["name"], bool(r.get("deleted"))) for r in changed) == [
        ("big", False), ("link", False), ("link", True)]
    assert client.get(tree_of(client)["big"]["id"]).body == b"smaller now"


def test_import_while_clients_write(server, tmp_path):
    top = tmp_path / "src"
    top.mkdir()
    make_tree(top, 600)
    stop, failed = threading.Event(), []

    def write(n):
        c, i = server.client(), 0
        while not stop.is_set():
            a = c.put(f"w{n}-{i}", b"c" * (i % 3) * 9000, name=f"w{n}-{i}")
            if a.status != 201:
                failed.append(a)
            i += 1
        c.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    imported = server.import_tree(top)
    stop.set()
    for t in threads:
        t.join()
    assert not failed and imported[0] == 601
    server.client().everything()
