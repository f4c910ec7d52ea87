"""Jobs of a client: handed in with and without a network, sent once, sealed while they wait."""
import base64
import json
import subprocess

import pytest

from conftest import wait_for


@pytest.fixture
def mounted(server, home, make_client):
    types = home / "jobs.json"
    types.write_text(json.dumps({"jobs": {"reverse": {"command": ["/usr/bin/rev"]}, "small": {"command": ["/bin/cat"], "max_payload_bytes": 10},
                                          "slow": {"command": ["/bin/sleep", "50"]}, "fails": {"command": ["/bin/false"]}}}))
    server.stop()
    server.options = ["--jobs", str(types)]
    server.start()
    c = make_client().mount()
    c.sync()
    return c


def job(client, *args, payload=None, check=True):
    r = subprocess.run([str(client.binary), "job", *args], env=client.env, input=payload, capture_output=True, timeout=60)
    assert not check or r.returncode == 0, r.stderr
    return r


def run(client, kind, payload):
    return job(client, "run", "--no-wait", kind, payload=payload).stdout.decode().strip()


def listed(client):
    return {j["job"]: j for j in json.loads(job(client, "ls", "--json").stdout)["jobs"]}


def result(client, name):
    return wait_for(lambda: (r := job(client, "result", name, check=False)).returncode == 0 and r).stdout


def test_a_payload_is_worked_on_and_its_result_comes_back(mounted):
    name = run(mounted, "reverse", b"abc\n")
    assert result(mounted, name) == b"cba\n"
    assert listed(mounted)[name]["state"] == "sent"


def test_run_waits_and_writes_the_result(mounted):
    r = job(mounted, "run", "reverse", payload=b"abc\n")
    assert r.stdout == b"cba\n" and not r.stderr
    answer = json.loads(job(mounted, "run", "--json", "reverse", payload=b"de\n").stdout)
    assert answer["ok"] and base64.b64decode(answer["result"]) == b"ed\n" and answer["job"] in listed(mounted)


@pytest.mark.parametrize("kind,options,code,word", [("slow", ["--timeout", "1s"], 10, b"no result yet"), ("fails", [], 1, b"failed"),
                                                    ("nothing", [], 1, b"refused")])
def test_run_without_a_result_says_why(mounted, kind, options, code, word):
    r = job(mounted, "run", *options, kind, payload=b"x", check=False)
    assert (r.returncode, r.stdout) == (code, b"") and word in r.stderr


def test_run_says_that_the_job_waits_sealed_without_a_network_or_a_mount(server, mounted):
    server.stop()
    wait_for(lambda: mounted.status()["state"] == "offline")
    first = job(mounted, "run", "reverse", payload=b"abc\n", check=False)
    mounted.umount()
    second = job(mounted, "run", "--json", "reverse", payload=b"def\n", check=False)
    assert (first.returncode, second.returncode) == (9, 9) and b"sealed in the journal" in first.stderr
    names = [first.stderr.split()[-1].decode(), json.loads(second.stdout)["job"]]
    server.start()
    mounted.mount()
    assert [result(mounted, n) for n in names] == [b"cba\n", b"fed\n"]


def test_offline_it_waits_sealed_through_a_crash_and_is_sent_on_reconnect(server, mounted):
    server.stop()
    wait_for(lambda: mounted.status()["state"] == "offline")
    names = [run(mounted, "reverse", b"PAYLOAD-CANARY %d\n" % i) for i in range(3)]
    assert all(listed(mounted)[n]["state"] == "waiting" for n in names)
    mounted.sigkill()
    for p in mounted.volume.rglob("*"):
        assert not p.is_file() or b"PAYLOAD-CANARY" not in p.read_bytes(), p
    mounted.mount()
    assert job(mounted, "result", names[0], check=False).returncode != 0
    server.start()
    assert [result(mounted, n) for n in names] == [b"%d YRANAC-DAOLYAP\n" % i for i in range(3)]
    a = server.request("GET", "/v1/jobs")
    assert len(json.loads(a[2])["jobs"]) == 3


def test_an_unmounted_volume_takes_jobs_too(mounted):
    mounted.umount()
    name = run(mounted, "reverse", b"abc\n")
    mounted.mount()
    assert result(mounted, name) == b"cba\n"


@pytest.mark.parametrize("kind,payload", [("small", b"x" * 11), ("nothing", b"x")])
def test_a_job_the_origin_refuses_says_why_and_holds_up_no_other(mounted, kind, payload):
    refused, good = run(mounted, kind, payload), run(mounted, "reverse", b"abc\n")
    assert result(mounted, good) == b"cba\n"
    entry = listed(mounted)[refused]
    assert entry["state"] == "refused" and entry["error"]
    assert job(mounted, "result", refused, check=False).returncode != 0


def test_payloads_have_a_limit(mounted):
    r = job(mounted, "run", "reverse", payload=b"x" * ((4 << 20) + 1), check=False)
    assert r.returncode == 2 and listed(mounted) == {}
