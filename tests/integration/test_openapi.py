"""docs/openapi.yaml is sound, says what the server has and how it answers, and what it forbids is refused."""
import os
import pathlib
import re

import jsonschema
import pytest

import http_fuzz
from openapi import DIALECT, Spec

ROUTES = pathlib.Path(__file__).resolve().parents[2] / "server" / "routes.c"


@pytest.fixture(scope="module")
def spec():
    return Spec()


@pytest.fixture
def server(tmp_path):
    s = http_fuzz.start(tmp_path)
    yield s
    s.close()


def test_its_schemas_are_schemas_and_its_references_lead_somewhere(spec):
    n = 0
    for schema in spec.schemas():
        DIALECT.check_schema(schema)
        n += 1
    assert n > 50
    for ref in spec.references():
        spec.resolver.resolve(ref)
    used = {r.rsplit("/", 1)[1] for r in spec.references() if "/schemas/" in r}
    assert used == set(spec.doc["components"]["schemas"])
    ids = [o.id for o in spec.operations]
    assert len(ids) == len(set(ids))


def test_it_names_each_route_of_the_server_and_no_other(spec, server):
    """The server's own table, read from its source, and its answers to OPTIONS."""
    text = ROUTES.read_text()
    short = dict(re.findall(r'#define (\w+) "([^"]+)"', text))
    table = set()
    for method, path in re.findall(r'\{ "([A-Z]+)", ((?:\w+|"[^"]*")(?: "[^"]*")?),', text):
        path = "".join(w.strip('"') if w[0] == '"' else short[w] for w in path.split())
        table.add((method, re.sub(r"\{\w+\}", "{}", path)))
    table.remove(("GET", "/admin"))  # the page for people, not of the protocol
    assert len(table) > 30
    documented = {(o.method, re.sub(r"\{\w+\}", "{}", o.path)) for o in spec.operations if o.method != "HEAD"}
    assert documented == table
    client = server.client()
    for path in spec.doc["paths"]:
        a = client.call("OPTIONS", re.sub(r"\{\w+\}", "x", path))
        methods = {o.method for o in spec.operations if o.path == path}
        assert set(a.headers["Allow"].split(", ")) == methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    client.close()


def test_each_operation_succeeds_and_answers_as_it_says(spec, server):
    f = http_fuzz.Fuzzer(server, 0)
    last = ("deleteRecord", "deleteJob", "revokeDevice", "revokeToken")
    for n, operation in enumerate(sorted(spec.operations, key=lambda o: o.id in last)):
        f.n = n
        r = f.valid(operation)
        if operation.id in ("revokeDevice", "trustDevice"):
            r.segments[2] = server.dkid
        elif operation.id == "deleteRecord":
            r.segments[-1] = "seed"
        elif operation.id == "revokeToken":
            r.segments[-1] = "1"
        elif operation.id == "getJobResult":
            http_fuzz.wait_for_job(server)
        (status, headers, body), = f.exchange(r.bytes(), 20, operation.method)
        assert 200 <= status < 300, (operation.id, status, body)
        assert operation.faults(status, headers, body) == []
    f.db.close()


def test_whatever_names_a_thing_of_another_account_is_403(spec, server):
    """For each operation of the document, so that none can be forgotten; a job of another is as if it were not there."""
    f, refused = http_fuzz.Fuzzer(server, 0), 0
    server.admin("store", "add", "--account", "tester", "main", str(server.dir))
    stranger = server.new_token(account="stranger")
    for f.n, operation in enumerate(spec.operations):
        named = [s for s in operation.path.split("/") if s in ("{store}", "{dkid}")]
        r = f.valid(operation)
        r.headers = [(k, "Bearer " + stranger if k == "Authorization" else v) for k, v in r.headers]
        if "{dkid}" in named:
            r.segments[2] = server.dkid
        (status, _, body), = f.exchange(r.bytes(), 20, operation.method)
        if named or "admin" in operation.node["tags"]:
            assert status == 403, (operation.id, status, body)
            refused += 1
        elif "{job}" in operation.path:
            assert status == 404, (operation.id, status, body)
        assert not any(s.encode() in body for s in (server.dkid, server.job, '"main"'))
    assert refused > 20
    f.db.close()


def test_the_validation_is_not_blind(spec):
    """A server that answers something else would be caught."""
    stores = next(o for o in spec.operations if o.id == "listStores")
    good = {"cachet-instance": "ab" * 16, "content-type": "application/json"}
    assert stores.faults(200, good, b'{"stores":[{"id":"a","mode":"rw","records":0,"bytes":0}]}') == []
    for status, headers, body in ((200, good, b'{"stores":[{"id":"a/b","mode":"rw","records":0,"bytes":0}]}'), (200, good, b"{}"),
                                  (200, {**good, "content-type": "text/html"}, b'{"stores":[]}'), (200, good, b"<html>"),
                                  (200, {"content-type": "application/json"}, b'{"stores":[]}'), (302, good, b""),
                                  (404, {**good, "content-type": "application/problem+json"}, b'{"type":"about:blank"}')):
        assert stores.faults(status, headers, body), (status, headers, body)
    with pytest.raises(jsonschema.SchemaError):
        DIALECT.check_schema({"type": "strin"})


@pytest.mark.parametrize("seed", [int(os.environ.get("CACHET_SEED", "1"))])
def test_spoiled_requests_are_refused_with_a_problem_and_store_nothing(server, seed):
    """A slice of scripts/fuzz-http, which says how it is judged."""
    f = http_fuzz.Fuzzer(server, seed)
    f.run(rounds=80)
    f.finish()
    assert f.statuses[400] > 100 and f.statuses[200] > 100
