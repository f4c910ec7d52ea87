"""Queries: what a statement may read, what an answer is, and that it ends (docs/protocol.md, Queries)."""
import json
import subprocess
import threading

import pytest

from server_fixtures import Server, command

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT {} FROM r"
VISITS = "SELECT id, json FROM records WHERE json ->> '$.subjectId' = :subjectId ORDER BY name"


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


def declare(server, name, sql, store="main"):
    return subprocess.run([*command(), "query", "add", "--store", store, name, str(server.dir)], input=sql, text=True,
                          capture_output=True)


def ask(client, address, **headers):
    return client.call("GET", f"/v1/stores/{client.store}/queries/{address}",
                       headers={k.replace("_", "-"): v for k, v in headers.items()})


def visit(client, name, **members):
    return client.make(name, name + ".json", json.dumps(members).encode())


def test_a_query_answers_from_the_json_records_of_its_store(server, client):
    server.admin("store", "add", "other", str(server.dir))
    other = server.client(store="other")
    visit(other, "o", subjectId="42")
    other.close()
    visit(client, "a", subjectId="42", pulse=60)
    visit(client, "b", subjectId="43")
    visit(client, "big", subjectId="42", pad="x" * 20000)  # in a file of its own
    client.make("t", "t.txt", b"subjectId 42")
    assert declare(server, "visits", VISITS).returncode == 0
    a = ask(client, "visits?subjectId=42")
    assert a.status == 200 and a.headers["Content-Type"] == "application/json"
    assert [r["id"] for r in a.json] == ["a", "big"] and a.json[0]["json"] == {"subjectId": "42", "pulse": 60}


def test_parameters_are_values_and_never_sql(server, client):
    visit(client, "a", subjectId="' OR 1=1 --")
    visit(client, "b", subjectId="x")
    declare(server, "visits", VISITS)
    assert [r["id"] for r in ask(client, "visits?subjectId=%27%20OR%201%3D1%20--").json] == ["a"]


@pytest.mark.parametrize("parameters", ["", "?a=1", "?subjectId=1&subjectId=1", "?subjectId=1&b=2", "?subjectId=%00",
                                        "?subjectId=%ff", "?subjectId=%zz", "?subjectId", "?=", "?subjectId=" + "x" * 2000])
def test_parameters_that_are_not_the_querys_are_400(server, client, parameters):
    declare(server, "visits", VISITS)
    a = ask(client, "visits" + parameters)
    assert a.status == 400 and a.problem == "bad-request"


@pytest.mark.parametrize("sql", [
    "SELECT hash FROM tokens", "SELECT hash FROM main.tokens", "SELECT count(*) FROM main.records",
    "SELECT count(*) FROM tokens", "SELECT count(*) FROM main.TOKENS", "SELECT 1 FROM Tokens t, records",
    "WITH records AS (SELECT * FROM main.records) SELECT * FROM records", "SELECT * FROM main.contents",
    "SELECT sql FROM sqlite_schema", "SELECT * FROM sqlite_temp_schema", "SELECT * FROM pragma_table_info('tokens')",
    "PRAGMA user_version", "DELETE FROM main.records", "UPDATE main.stores SET seq = 0", "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t (a)", "ATTACH 'records.db' AS x", "VACUUM INTO 'copy'", "SELECT load_extension('x')",
    "SELECT cachet_json(1, 'a', NULL, 3)", "SELECT 1; SELECT 2", "SELECT ?", "SELECT @a", "", "EXPLAIN SELECT x"])
def test_a_statement_that_reads_anything_else_is_not_taken(server, client, sql):
    r = declare(server, "bad", sql)
    assert r.returncode == 2 and r.stderr.startswith("cachet") or r.stderr.startswith("serve_main")
    assert ask(client, "bad").problem == "no-query"


def test_a_query_without_end_is_ended_and_does_not_hold_up_others(server, client):
    declare(server, "endless", ENDLESS.format("count(*)"))
    answers = []
    slow = threading.Thread(target=lambda: answers.append(ask(server.client(), "endless")))
    slow.start()
    for i in range(20):
        visit(client, f"r{i}", subjectId="1")
    slow.join(60)
    assert answers[0].status == 413 and answers[0].json["detail"] == "max_query_ms"


@pytest.mark.parametrize("columns,limit", [("n", "max_query_rows"), ("printf('%.*c', 100000, 'x')", "max_query_bytes")])
def test_an_answer_beyond_a_limit_is_refused_and_not_cut(server, client, columns, limit):
    declare(server, "many", ENDLESS.format(columns))
    a = ask(client, "many")
    assert a.status == 413 and a.problem == "too-large" and a.json["detail"] == limit


def test_a_query_that_fails_says_so(server, client):
    declare(server, "fails", "SELECT json_extract(:a, :a)")
    assert ask(client, "fails?a=x").problem == "query-failed"


def test_the_etag_changes_with_the_answer_only(server, client):
    visit(client, "a", subjectId="1")
    declare(server, "visits", VISITS)
    etag = ask(client, "visits?subjectId=1").headers["ETag"]
    visit(client, "b", subjectId="2")
    a = ask(client, "visits?subjectId=1", If_None_Match=etag)
    assert a.status == 304 and not a.body and a.headers["ETag"] == etag
    visit(client, "c", subjectId="1")
    a = ask(client, "visits?subjectId=1", If_None_Match=etag)
    assert a.status == 200 and a.headers["ETag"] != etag
    part = ask(client, "visits?subjectId=1", If_Match=a.headers["ETag"], Range="bytes=2-5")
    assert part.status == 206 and part.body == a.body[2:6]
    assert ask(client, "visits?subjectId=1", If_Match=etag).status == 412


def test_a_token_of_another_store_learns_nothing(server, client):
    server.admin("store", "add", "other", str(server.dir))
    declare(server, "visits", VISITS)
    stranger = server.client(server.new_token("--store", "other"))
    for path in ("queries", "queries/visits?subjectId=1", "queries/nothing"):
        assert stranger.call("GET", "/v1/stores/main/" + path).status == 403
    stranger.close()


def test_queries_are_listed_replaced_and_removed(server, client):
    declare(server, "q", "SELECT :a AS v")
    declare(server, "q", "SELECT :b AS v, :a AS w")
    assert client.call("GET", "/v1/stores/main/queries").json == {"queries": [{"name": "q", "params": ["b", "a"]}]}
    assert client.call("GET", "/v1/stores").json["stores"][0]["queries"] == ["q"]
    assert ask(client, "q?a=1&b=2").json == [{"v": "2", "w": "1"}]
    server.admin("query", "rm", "--store", "main", "q", str(server.dir))
    assert ask(client, "q?a=1&b=2").problem == "no-query"
    assert client.call("GET", "/v1/stores/main/queries").json == {"queries": []}


def test_values_of_every_type_are_json(server, client):
    declare(server, "t", "SELECT 1 AS i, 1.5 AS f, 9e999 AS inf, NULL AS n, x'00ff' AS b, 'a\"é' AS s, '{bad' AS json")
    assert ask(client, "t").json == [
        {"i": 1, "f": 1.5, "inf": None, "n": None, "b": "AP8=", "s": "a\"é", "json": "{bad"}]
