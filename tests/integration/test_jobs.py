"""Process-only jobs: what comes back, what ends them, and that no payload is anywhere but in memory (docs/protocol.md)."""
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from server_fixtures import Server, command, new_key

TYPES = {
    "cat": {"command": ["/bin/cat"], "max_payload_bytes": 1 << 20},
    "short": {"command": ["/bin/cat"], "ttl_s": 4},
    "fails": {"command": ["/bin/sh", "-c", "cat; exit 3"]},
    "deaf": {"command": ["/bin/sh", "-c", "exec 0<&-; echo hi"]},
    "slow": {"command": ["/bin/sh", "-c", "cat >/dev/null; sleep 100 & sleep 100"], "timeout_s": 1},
    "long": {"command": ["/bin/sh", "-c", "cat >/dev/null; sleep 100"]},
    "loud": {"command": ["/bin/cat", "/dev/zero"], "max_result_bytes": 100000},
    "none": {"command": ["/nonexistent/worker"]},
}


def eventually(what, seconds=20):
    end = time.monotonic() + seconds
    while not (r := what()):
        assert time.monotonic() < end, "not so in time"
        time.sleep(0.02)
    return r


@pytest.fixture
def server(tmp_path):
    types = tmp_path / "jobs.json"
    types.write_text(json.dumps({"jobs": TYPES}))
    s = Server(tmp_path)
    s.jobs = str(types)
    start(s)
    yield s
    s.close()


def start(s):
    s.port_file.unlink(missing_ok=True)
    with open(s.log, "ab") as log:
        s.process = subprocess.Popen([*command(), str(s.dir), "--listen", f"127.0.0.1:{s.port}", "--port-file",
                                      str(s.port_file), "--jobs", s.jobs], stdout=log, stderr=log)
    eventually(s.port_file.exists)
    s.port = int(eventually(s.port_file.read_text))


@pytest.fixture
def client(server):
    c = server.client()
    yield c
    c.close()


def post(client, kind, payload, key=None):
    return client.call("POST", f"/v1/jobs?type={kind}", payload, {"Idempotency-Key": key or new_key()})


def state(client, job):
    return client.call("GET", f"/v1/jobs/{job}").json["status"]


def run(client, kind, payload):
    """(status, answer to GET result)"""
    a = post(client, kind, payload)
    assert a.status == 202 and a.json["status"] in ("queued", "running", "done", "failed"), a
    job = a.json["job_id"]
    end = eventually(lambda: (s := state(client, job)) in ("done", "failed") and s)
    return end, client.call("GET", f"/v1/jobs/{job}/result")


@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20])
def test_the_worker_gets_the_payload_and_its_output_is_the_result(client, size):
    payload = os.urandom(size)
    status, result = run(client, "cat", payload)
    assert status == "done" and result.status == 200 and result.body == payload


def test_a_worker_that_does_not_read_may_still_answer(client):
    status, result = run(client, "deaf", b"x" * (1 << 20))
    assert status == "done" and result.body == b"hi\n"


@pytest.mark.parametrize("kind", ["fails", "slow", "loud", "none"])
def test_a_worker_that_fails_leaves_no_result(client, kind):
    status, result = run(client, kind, b"x")
    assert status == "failed" and result.status == 410 and result.problem == "job-gone"


def test_a_killed_worker_leaves_no_process(server, client):
    run(client, "slow", b"x")
    eventually(lambda: not children(server))


def children(server):
    return subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split()


def test_a_payload_beyond_the_limit_is_refused_before_it_is_sent(server, client):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        s.sendall(b"POST /v1/jobs?type=cat HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nIdempotency-Key: %s\r\n"
                  b"Content-Length: 1048577\r\n\r\n" % (server.token.encode(), new_key().encode()))
        answer = s.recv(65536)
    assert b" 413 " in answer.split(b"\r\n")[0] and b'"max_payload_bytes"' in answer
    assert client.call("GET", "/v1/jobs").json == {"jobs": []}


def test_a_payload_of_unknown_length_is_refused(client):
    a = client.call("POST", "/v1/jobs?type=cat", iter([b"x"]), {"Idempotency-Key": new_key(), "Transfer-Encoding": "chunked"})
    assert a.status == 411


@pytest.mark.parametrize("path,key", [("?type=cat", None), ("?type=cat", "zz"), ("", "0" * 32), ("?type=a&type=b", "0" * 32)])
def test_malformed_jobs_are_400(client, path, key):
    a = client.call("POST", "/v1/jobs" + path, b"x", {"Idempotency-Key": key})
    assert a.status == 400


def test_an_unknown_type_is_404(client):
    assert post(client, "nothing", b"x").problem == "no-job"


def test_a_request_sent_again_makes_no_second_job_even_after_a_restart(server, client):
    key = new_key()
    first = post(client, "cat", b"x", key)
    again = post(client, "cat", b"x", key)
    assert again.json["job_id"] == first.json["job_id"] and again.headers["Cachet-Replayed"] == "true"
    eventually(lambda: state(client, first.json["job_id"]) == "done")
    server.kill()
    start(server)
    client.close()
    third = post(client, "cat", b"x", key)
    assert third.status == 202 and third.json["job_id"] == first.json["job_id"] and third.json["status"] == "lost"
    assert client.call("GET", f"/v1/jobs/{first.json['job_id']}/result").problem == "job-gone"


def test_jobs_of_another_account_are_not_there(server, client):
    job = post(client, "cat", b"x").json["job_id"]
    eventually(lambda: state(client, job) == "done")
    other = server.client(server.new_token(account="other"))
    assert other.call("GET", "/v1/jobs").json == {"jobs": []}
    root = server.client(server.new_token("--admin", account="root"))
    assert client.call("GET", "/v1/jobs").json == root.call("GET", "/v1/jobs").json
    assert len(root.call("GET", "/v1/jobs").json["jobs"]) == 1
    assert root.call("GET", f"/v1/jobs/{job}/result").status in (404, 410)
    assert other.call("GET", f"/v1/jobs/{job}").status == 404
    assert other.call("GET", f"/v1/jobs/{job}/result").status == 404
    assert other.call("DELETE", f"/v1/jobs/{job}").status == 404
    assert client.call("GET", f"/v1/jobs/{job}/result").status == 200
    server.kill()
    start(server)
    for c, status in ((client, 200), (root, 200), (other, 404)):  # lost, and said so to whom it was
        c.port = server.port
        c.close()
        assert c.call("GET", f"/v1/jobs/{job}").status == status
    root.close()
    other.close()


def test_delete_ends_a_running_job(server, client):
    job = post(client, "long", b"x").json["job_id"]
    eventually(lambda: state(client, job) == "running" and children(server))
    assert client.call("DELETE", f"/v1/jobs/{job}").status == 200
    assert client.call("GET", f"/v1/jobs/{job}").problem == "no-job"
    eventually(lambda: not children(server))


def test_the_queue_has_a_bound(client):
    jobs = [post(client, "long", b"x") for _ in range(80)]
    assert {a.status for a in jobs} == {202, 503}
    assert all(a.headers["Retry-After"] for a in jobs if a.status == 503)
    assert len(client.call("GET", "/v1/jobs").json["jobs"]) == sum(a.status == 202 for a in jobs)


def test_the_database_has_four_things_of_a_job(server, client):
    job = post(client, "cat", b"x").json["job_id"]
    eventually(lambda: state(client, job) == "done")
    db = sqlite3.connect(f"file:{server.dir}/records.db?mode=ro", uri=True)
    rows = db.execute("SELECT * FROM jobs")
    assert [c[0] for c in rows.description] == ["job_id", "type", "status", "ttl"]
    rows.close()  # and with it its snapshot
    (row,) = eventually(lambda: db.execute("SELECT * FROM jobs WHERE status = 'done'").fetchall())
    assert row[:3] == (job, "cat", "done") and abs(row[3] - time.time() - 3600) < 60
    db.close()


def memory(pid):
    """All writable memory of a process, but for what a sanitizer maps for itself."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if m:
                at, end = (int(x, 16) for x in m.groups())
                if end - at > 1 << 30:
                    continue
                try:
                    mem.seek(at)
                    yield mem.read(end - at)
                except OSError:
                    pass


def test_neither_payload_nor_result_is_anywhere_after_the_ttl(server, client):
    """In no file of the data directory while it runs; in no file, log or memory afterwards."""
    canary = os.urandom(8).hex().encode()
    a = post(client, "short", b"payload " + canary + b" " * 100000 + canary)
    job = a.json["job_id"]
    files = [p for p in server.dir.rglob("*") if p.is_file()] + [server.log]
    assert all(canary not in p.read_bytes() for p in files)
    result = eventually(lambda: (r := client.call("GET", f"/v1/jobs/{job}/result")).status == 200 and r)
    assert canary in result.body
    assert any(canary in m for m in memory(server.process.pid)), "the control: it is there before"
    eventually(lambda: client.call("GET", f"/v1/jobs/{job}").status == 404)
    client.close()
    eventually(lambda: not any(canary in m for m in memory(server.process.pid)))
    files = [p for p in server.dir.rglob("*") if p.is_file()] + [server.log]
    assert all(canary not in p.read_bytes() for p in files)


def dumps_core(process):
    """Kills it as a fault would, and asks the kernel whether it wrote its memory out."""
    os.kill(process.pid, signal.SIGSEGV)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -os.WTERMSIG(status)
    return os.WCOREDUMP(status)


def test_a_fault_leaves_no_core(server, client, tmp_path, monkeypatch):
    """With payloads in memory, and with a limit that would allow one. Where the kernel writes none of anybody, that is all it says."""
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    monkeypatch.chdir(tmp_path)
    try:
        other = dumps_core(subprocess.Popen(["/bin/sleep", "100"]))
        server.kill()
        start(server)
        client.close()
        client.port = server.port
        assert post(client, "long", b"payload").status == 202
        client.close()
        dumped = dumps_core(server.process)
        start(server)
        assert not dumped
        assert limits[1] == 0 or other, "the control"
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
