"""Answers of queries as files of the mount. Each test is one behaviour."""
import errno
import json
import os
import subprocess
import time

import pytest

from conftest import BIN, wait_for

VISITS = "SELECT name, json FROM records WHERE json ->> '$.subjectId' = :subjectId ORDER BY name"


def declare(server, name="visits", sql=VISITS):
    subprocess.run([BIN, "serve", "query", "add", "--store", "notes", "--sql", sql, name, str(server.dir)], check=True,
                   capture_output=True)


def visit(server, name, **members):
    server.write("notes", name, json.dumps(members).encode())


@pytest.fixture
def mounted(server, make_client):
    visit(server, "a.json", subjectId="42", pulse=60)
    visit(server, "b.json", subjectId="43")
    declare(server)
    c = make_client().mount()
    c.sync()
    return c


def names(path):
    return [r["name"] for r in json.loads(path.read_bytes())]


def error_of(what):
    with pytest.raises(OSError) as e:
        what()
    return e.value.errno


def test_an_answer_is_a_file_that_its_name_asks_for(mounted):
    top = mounted.mnt / "queries"
    assert os.listdir(top) == ["visits"] and os.listdir(top / "visits") == []
    path = top / "visits" / "subjectId=42.json"
    assert path.stat().st_size == len(path.read_bytes()) > 10
    assert names(path) == ["a.json"] and names(top / "visits" / "subjectId=43.json") == ["b.json"]
    assert sorted(os.listdir(top / "visits")) == ["subjectId=42.json", "subjectId=43.json"]


def test_an_answer_is_listed_when_it_was_read(mounted):
    top = mounted.mnt / "queries" / "visits"
    for n in range(50):
        names(top / f"subjectId={n}.json")
        assert f"subjectId={n}.json" in os.listdir(top)


def test_an_answer_that_is_here_is_read_offline_and_after_a_restart(server, mounted):
    path = mounted.mnt / "queries/visits/subjectId=42.json"
    assert names(path) == ["a.json"]
    server.stop()
    mounted.umount()
    mounted.mount()
    assert names(path) == ["a.json"]
    assert error_of(lambda: (path.parent / "subjectId=43.json").read_bytes()) == errno.EHOSTUNREACH


def test_a_changed_answer_arrives(server, mounted):
    path = mounted.mnt / "queries/visits/subjectId=42.json"
    assert names(path) == ["a.json"]
    visit(server, "c.json", subjectId="42")
    wait_for(lambda: names(path) == ["a.json", "c.json"])


@pytest.mark.parametrize("name", ["a", "subjectId=42", "x=1.json", "all.json", "=1.json", "subjectId=%zz.json",
                                  "subjectId=1&subjectId=2.json"])
def test_a_name_that_is_no_answer_does_not_exist(mounted, name):
    assert error_of((mounted.mnt / "queries/visits" / name).read_bytes) == errno.ENOENT
    assert os.listdir(mounted.mnt / "queries/visits") == []


def test_parameters_with_odd_characters(server, mounted):
    visit(server, "odd.json", subjectId="a/b c&é")
    mounted.sync()
    assert names(mounted.mnt / "queries/visits/subjectId=a%2Fb c%26é.json") == ["odd.json"]


def test_answers_cannot_be_changed(mounted):
    top = mounted.mnt / "queries"
    path = top / "visits/subjectId=42.json"
    path.read_bytes()
    for what in (lambda: path.write_bytes(b"x"), lambda: (top / "visits/new.txt").write_bytes(b"x"), path.unlink,
                 lambda: (top / "own").mkdir(), lambda: os.rmdir(top / "visits"), lambda: path.chmod(0o600),
                 lambda: os.rename(path, top / "visits/x.json"), lambda: os.truncate(path, 0)):
        assert error_of(what) == errno.EROFS
    assert error_of(lambda: os.rename(path, mounted.mnt / "x.json")) in (errno.EROFS, errno.EXDEV)
    for what in (lambda: os.rmdir(top), lambda: os.rename(top, mounted.mnt / "q")):
        assert error_of(what) == errno.EBUSY
    mounted.sync()
    assert names(path) == ["a.json"]


def test_a_record_called_queries_keeps_its_name(server, mounted):
    assert names(mounted.mnt / "queries/visits/subjectId=42.json") == ["a.json"]
    server.write("notes", "queries", b"a record")
    mounted.sync()
    wait_for(lambda: (mounted.mnt / "queries").is_file())
    assert (mounted.mnt / "queries").read_bytes() == b"a record"
    assert names(mounted.mnt / "queries~/visits/subjectId=42.json") == ["a.json"]


def test_a_listing_from_nothing_leaves_answers_alone(server, mounted):
    path = mounted.mnt / "queries/visits/subjectId=42.json"
    assert names(path) == ["a.json"]
    subprocess.run(["sqlite3", str(server.dir / "records.db"), "UPDATE stores SET purged_seq = 1000, seq = 1001"], check=True)
    visit(server, "z.json", subjectId="9")
    wait_for(lambda: (mounted.mnt / "z.json").exists())
    assert os.listdir(path.parent) == ["subjectId=42.json"]


def test_a_removed_query_goes_with_its_answers(server, mounted):
    path = mounted.mnt / "queries/visits/subjectId=42.json"
    assert names(path) == ["a.json"]
    subprocess.run([BIN, "serve", "query", "rm", "--store", "notes", "visits", str(server.dir)], check=True,
                   capture_output=True)
    wait_for(lambda: not path.exists())
    mounted.umount()
    mounted.mount()
    wait_for(lambda: os.listdir(mounted.mnt / "queries") == [])


def test_a_query_declared_later_appears_without_being_asked_for(server, mounted):
    visit(server, "c.json", subjectId="44")
    declare(server, "others")
    wait_for(lambda: (mounted.mnt / "queries" / "others").is_dir(), timeout=60)
    assert names(mounted.mnt / "queries/others/subjectId=44.json") == ["c.json"]
    subprocess.run([BIN, "serve", "query", "rm", "--store", "notes", "others", str(server.dir)], check=True, capture_output=True)
    wait_for(lambda: not (mounted.mnt / "queries" / "others").exists(), timeout=60)


def test_an_answer_that_was_evicted_is_fetched_again(server, make_client):
    visit(server, "a.json", subjectId="42", pad="x" * 300000)
    for i in range(13):
        server.write("notes", f"big{i}", os.urandom(4 << 20))
    declare(server)
    c = make_client(cache_size="40MB").mount()
    c.sync()
    path = c.mnt / "queries/visits/subjectId=42.json"
    content = path.read_bytes()
    time.sleep(1.1)  # use is counted in seconds
    for i in range(13):
        (c.mnt / f"big{i}").read_bytes()
    c.umount()
    c.mount()
    c.sync()
    before = c.status()["fetched_bytes"]
    assert path.read_bytes() == content
    assert c.status()["fetched_bytes"] - before >= len(content)


def test_nothing_of_an_answer_is_in_the_clear(server, mounted):
    visit(server, "s.json", subjectId="SUBJECT-CANARY-7", pulse="PULSE-CANARY-7")
    mounted.sync()
    assert b"PULSE-CANARY-7" in (mounted.mnt / "queries/visits/subjectId=SUBJECT-CANARY-7.json").read_bytes()
    mounted.sync()
    files = [p for p in mounted.volume.rglob("*") if p.is_file()]
    assert files
    for p in files:
        data = p.read_bytes()
        assert b"CANARY-7" not in data and b"visits" not in data and b"subjectId" not in data, p
