"""Devices and keys: the server against a second implementation of the client (enrolment.py)."""
import base64
import json
import os
import shutil
import subprocess
import time

import pytest

from enrolment import Device, Refused, b64, is_signed
from server_fixtures import Server, command


@pytest.fixture
def server(tmp_path):
    s = Server(tmp_path).start()
    yield s
    s.close()


@pytest.fixture
def device(server):
    d = Device(server.client())
    d.enrol(name="a laptop")
    return d


def admin(server, *args):
    # Server.admin may be serve_main, which has not these verbs.
    cachet = os.environ.get("CACHET_BIN") or str(command()[0])
    return subprocess.run([cachet, "serve", *args, str(server.dir)], check=True, capture_output=True, text=True).stdout


def audit(server):
    return [json.loads(line) for line in admin(server, "audit", "--json").splitlines()]


def other_account(server):
    return server.client(server.new_token(account="bert"))


# ---- enrol, unwrap -------------------------------------------------------------------------------

def test_the_same_device_gets_the_same_key(server, device):
    kid, kek = device.kek()
    assert len(kek) == 32 and len(kid) == 32
    assert device.kek() == (kid, kek)
    assert device.kek(size=32) == (kid, kek)
    before = device.dkid
    assert device.enrol()["kid"] == kid and device.dkid == before
    server.stop()
    server.start()
    device.client.port = server.port
    device.client.close()
    assert device.kek() == (kid, kek)
    assert len(json.loads(device.call("GET", "/v1/devices").body)["devices"]) == 1


def test_wraps_are_fresh_each_time(device):
    a, b = (device.ask()[0].json["wrappedKEK"] for _ in range(2))
    assert all(a[m] != b[m] for m in ("eph_pub", "iv", "ct", "salt"))


def test_devices_have_keys_of_their_own(server, device):
    other = Device(server.client())
    other.enrol()
    assert other.dkid != device.dkid
    assert other.kek()[1] != device.kek()[1] and other.kek()[0] != device.kek()[0]


def test_a_new_public_key_takes_the_place_of_the_old(server, device):
    kek, before = device.kek(), device.dkid
    old = Device(device.client, device.id)
    old.private, old.dkid, old.server_key = device.private, device.dkid, device.server_key
    device.private = Device(device.client).private
    device.enrol()
    assert device.dkid == before and device.kek() == kek
    a, nonce = old.ask()
    with pytest.raises(Exception):
        old.open_answer(a, nonce)
    assert [e["what"] for e in audit(server)].count("device-key") == 1


def test_what_the_answer_says(device):
    a, _ = device.ask()
    assert a.json["currentKid"] == a.json["kid"] and a.json["offline_ttl"] == 72 * 3600
    assert 89 * 86400 < a.json["expiresAt"] - time.time() <= 90 * 86400
    d, = json.loads(device.call("GET", "/v1/devices").body)["devices"]
    assert d["dkid"] == device.dkid and d["device_id"] == device.id and d["name"] == "a laptop" and d["state"] == "ok"
    assert d["kid"] == a.json["kid"] and abs(d["seenAt"] - time.time()) < 100 and d["account"] == "tester"


def test_capabilities_name_the_device(server, device):
    assert "device" not in server.client().call("GET", "/v1").json
    assert device.call("GET", "/v1").json["device"] == {"dkid": device.dkid, "kid": None, "state": "ok"}
    kid, _ = device.kek()
    assert device.call("GET", "/v1").json["device"] == {"dkid": device.dkid, "kid": kid, "state": "ok"}


def test_an_enrolment_survives_a_kill_as_soon_as_it_is_answered(server):
    for _ in range(4):
        d = Device(server.client())
        d.enrol()
        server.kill()
        server.start()
        d.client = server.client()
        kek = d.kek()
        server.kill()
        server.start()
        d.client = server.client()
        assert d.kek() == kek


# ---- signatures ----------------------------------------------------------------------------------

def test_a_replayed_answer_is_seen(device):
    a, nonce = device.ask()
    assert is_signed(device, a, nonce)
    a2, nonce2 = device.ask()
    assert not is_signed(device, a, nonce2) and not is_signed(device, a2, nonce)
    forged = a.json
    forged["nonce"] = b64(nonce2)
    a.body = json.dumps(forged).encode()
    assert not is_signed(device, a, nonce2)


def test_an_answer_for_another_device_or_with_other_content_is_seen(server, device):
    other = Device(server.client())
    other.enrol()
    nonce = os.urandom(16)
    mine, theirs = device.ask(nonce=nonce)[0], other.ask(nonce=nonce)[0]
    assert is_signed(device, mine, nonce) and is_signed(other, theirs, nonce)
    assert not is_signed(device, theirs, nonce)
    for change in ({"kid": theirs.json["kid"]}, {"wrappedKEK": theirs.json["wrappedKEK"]},
                   {"signature": theirs.json["signature"]}):
        a = device.ask(nonce=nonce)[0]
        a.body = json.dumps({**a.json, **change}).encode()
        assert not is_signed(device, a, nonce), change


# ---- rotation ------------------------------------------------------------------------------------

def test_rotation_keeps_the_old_key_within_reach(server, device):
    old = device.kek()
    new = device.kek(verb="rotate")
    assert new[0] != old[0] and new[1] != old[1]
    assert device.kek() == new
    assert device.kek(prefer=old[0]) == old
    a, _ = device.ask(prefer=old[0])
    assert a.json["currentKid"] == new[0]


def test_an_administrator_rotates_without_the_master_key(server, device):
    other = Device(other_account(server))
    other.enrol()
    old, theirs = device.kek(), other.kek()
    (server.dir / "master.key").rename(server.dir / "away")
    assert "1 devices" in admin(server, "rotate", "--account", "tester")
    (server.dir / "away").rename(server.dir / "master.key")
    kid = device.call("GET", "/v1").json["device"]["kid"]
    assert kid != old[0]
    assert device.kek()[0] == kid and device.kek(prefer=old[0]) == old and other.kek() == theirs
    admin(server, "rotate", "--all")
    assert device.kek()[0] != kid and other.kek()[0] != theirs[0]
    kid = device.kek()[0]
    admin(server, "rotate", "--device", other.dkid)
    assert device.kek()[0] == kid


def test_an_expired_key_is_replaced_and_stays_to_be_had(server, tmp_path):
    server.stop()
    server.options = ()
    process = subprocess.Popen([*command(), str(server.dir), "--listen", "127.0.0.1:0", "--port-file", str(tmp_path / "p"),
                                "--kek-ttl", "60", "--offline-ttl", "0"], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "p").exists() or not (tmp_path / "p").read_text():
            time.sleep(0.01)
        server.port = int((tmp_path / "p").read_text())
        d = Device(server.client())
        d.enrol()
        a, _ = d.ask()
        assert a.json["offline_ttl"] == 0 and a.json["expiresAt"] - time.time() <= 60
        old = d.kek()
        subprocess.run(["sqlite3", str(server.dir / "records.db"), "UPDATE keks SET expires_at = 1"], check=True)
        new = d.kek()
        assert new[0] != old[0] and d.kek() == new and d.kek(prefer=old[0]) == old
        d.client.close()
    finally:
        process.terminate()
        process.wait()
    server.start()


# ---- revoked, untrusted --------------------------------------------------------------------------

def test_a_revoked_device_is_told_by_a_signature(server, device):
    kid, _ = device.kek()
    admin(server, "device", "revoke", device.dkid)
    for prefer in (None, kid, "nonsense"):
        with pytest.raises(Refused) as e:
            device.kek(prefer=prefer)
        assert e.value.state == "device-revoked" and e.value.kid == (prefer or kid)
    with pytest.raises(Refused):
        device.kek(verb="rotate")
    a, nonce = device.ask()
    assert not is_signed(device, a, os.urandom(16))
    assert device.call("GET", "/v1").json["device"]["state"] == "revoked"
    a = device.call("GET", "/v1/stores")
    assert a.status == 403 and a.problem == "device-revoked" and "signature" not in a.json
    assert server.client().call("GET", "/v1/stores").status == 200


def test_enrolled_again_it_is_another_device_that_reaches_the_old_key(server, device):
    old, before = device.kek(), device.dkid
    assert device.call("POST", f"/v1/devices/{device.dkid}/revoke", {}).json == {"dkid": before, "state": "revoked"}
    assert device.enrol()["kid"] is None and device.dkid != before
    new = device.kek()
    assert new[0] != old[0] and device.kek(prefer=old[0]) == old
    assert device.call("GET", "/v1").json["device"]["state"] == "ok"
    a = device.call("POST", f"/v1/devices/{before}/trust", {"untrusted": False})
    assert a.status == 403 and a.problem == "device-revoked"


def test_an_untrusted_device_is_told_so_and_trusted_again(server, device):
    key = device.kek()
    assert device.call("POST", f"/v1/devices/{device.dkid}/trust", {"untrusted": True}).json["state"] == "untrusted"
    with pytest.raises(Refused) as e:
        device.kek()
    assert e.value.state == "device-untrusted" and e.value.kid == key[0]
    assert device.call("GET", "/v1").json["device"]["state"] == "untrusted"
    assert device.call("GET", "/v1/stores").status == 200
    device.enrol()
    assert device.call("GET", "/v1").json["device"]["state"] == "untrusted", "enrolling again is no way out"
    admin(server, "device", "trust", device.dkid)
    assert device.kek() == key


# ---- who may -------------------------------------------------------------------------------------

def test_another_account_gets_no_key(server, device):
    kid, _ = device.kek()
    thief = Device(other_account(server), device.id)
    thief.enrol()
    assert thief.dkid != device.dkid, "the same id in another account is another device"
    a, _ = thief.ask(prefer=kid)
    assert a.status == 404 and a.problem == "no-kid"
    thief.dkid = device.dkid
    for verb in ("kek", "rotate"):
        a, _ = thief.ask(verb=verb)
        assert a.status == 403 and a.problem == "not-yours" and "signature" not in a.json
    for verb, body in (("revoke", {}), ("trust", {"untrusted": True})):
        a = thief.call("POST", f"/v1/devices/{device.dkid}/{verb}", body)
        assert a.status == 403 and a.problem == "not-yours"
    assert device.kek()[0] == kid


def test_an_administrator_manages_devices_and_gets_no_key(server, device):
    device.kek()
    root = server.client(admin(server, "token", "add", "--admin", "--account", "root").strip())
    a = root.call("POST", f"/v1/devices/{device.dkid}/kek", {"nonce": b64(os.urandom(16))})
    assert a.status == 403 and a.problem == "forbidden"
    assert root.call("POST", "/v1/devices", {}).status == 403
    kid = device.kek()[0]
    assert root.call("POST", "/v1/admin/rotate", {"dkid": device.dkid}).json == {"rotated": 1}
    assert device.kek()[0] != kid
    assert root.call("POST", "/v1/admin/rotate", {"account": "nobody"}).status == 404
    assert root.call("POST", "/v1/admin/rotate", {}).status == 400
    assert [d["dkid"] for d in root.call("GET", "/v1/devices").json["devices"]] == [device.dkid]
    assert root.call("POST", f"/v1/devices/{device.dkid}/revoke", {}).status == 200
    with pytest.raises(Refused):
        device.kek()


def test_a_read_only_token_has_a_key_and_manages_nothing(server):
    d = Device(server.client(server.new_token("--read-only")))
    d.enrol()
    kek = d.kek()
    for verb, body in (("rotate", {"nonce": b64(os.urandom(16))}), ("revoke", {}), ("trust", {"untrusted": True})):
        assert d.call("POST", f"/v1/devices/{d.dkid}/{verb}", body).status == 403
    assert d.kek() == kek


# ---- bad input -----------------------------------------------------------------------------------

BAD_POINTS = {
    "empty": b"", "short": b"\x04" + bytes(63), "long": b"\x04" + bytes(65), "not on the curve": b"\x04" + b"\x01" * 64,
    "infinity": b"\x00", "zeros": bytes(65), "compressed": b"\x02" + bytes(32), "hybrid form": None, "x too large": b"\x04" + b"\xff" * 64,
}


@pytest.mark.parametrize("name", BAD_POINTS)
def test_a_wrong_point_is_refused(server, name):
    d = Device(server.client())
    point = BAD_POINTS[name] if BAD_POINTS[name] is not None else bytes([6 + (d.point[-1] & 1)]) + d.point[1:]
    a = d.call("POST", "/v1/devices", {"dk_pub": b64(point), "curve": "p256", "device_id": d.id})
    assert a.status == 400 and a.problem == "bad-point", a
    assert d.call("GET", "/v1/devices").json["devices"] == []


@pytest.mark.parametrize("change, problem", [
    ({"curve": "p384"}, "bad-curve"), ({"curve": None}, "bad-request"), ({"curve": 256}, "bad-request"),
    ({"dk_pub": "!!!"}, "bad-point"), ({"dk_pub": 7}, "bad-request"), ({"dk_pub": "A" * 100_000}, "bad-point"),
    ({"device_id": ""}, "bad-request"), ({"device_id": "x" * 65}, "bad-request"), ({"device_id": "../x"}, "bad-request"),
    ({"device_id": "a b"}, "bad-request"), ({"device_id": ["x"]}, "bad-request"), ({"name": "x" * 256}, "bad-request"),
    ({"name": "a\nb"}, "bad-request"), ({"name": {}}, "bad-request"),
])
def test_a_wrong_enrolment_is_refused(server, change, problem):
    d = Device(server.client())
    body = {"dk_pub": b64(d.point), "curve": "p256", "device_id": d.id, **change}
    a = d.call("POST", "/v1/devices", {k: v for k, v in body.items() if v is not None})
    assert a.status == 400 and a.problem == problem, a
    assert d.call("GET", "/v1/devices").json["devices"] == []


@pytest.mark.parametrize("body", [
    b"", b"{}", b"[]", b"{", b'{"nonce":""}', b'{"nonce":"%s"}' % base64.b64encode(bytes(15)),
    b'{"nonce":"%s"}' % base64.b64encode(bytes(33)), b'{"nonce":"%s="}' % base64.b64encode(bytes(16)), b'{"nonce":5}',
    b'{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","preferKid":5}', b'{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}',
    b'{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","preferKid":"' + b"k" * 129 + b'"}',
])
def test_a_wrong_request_for_a_key_is_refused(server, device, body):
    a = device.client.call("POST", f"/v1/devices/{device.dkid}/kek", body)
    assert a.status == 400 and a.problem == "bad-request", a


def test_an_unknown_device_or_key_is_said_so(server, device):
    a = device.client.call("POST", f"/v1/devices/{'0' * 32}/kek", {"nonce": b64(os.urandom(16))})
    assert a.status == 404 and a.problem == "no-such"
    kid = device.kek()[0]
    for unknown in ("0" * 32, "x", kid[:-1], kid.upper() + "x"):
        a, _ = device.ask(prefer=unknown)
        assert a.status == 404 and a.problem == "no-kid"


# ---- at rest -------------------------------------------------------------------------------------

def everything(directory, but=()):
    return b"".join(p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file() and p.name not in but)


def test_a_stolen_database_opens_nothing(server, device, tmp_path):
    keys = [device.kek(), device.kek(verb="rotate")]
    taken = tmp_path / "taken"
    shutil.copytree(server.dir, taken)  # as a thief finds it, with the write-ahead log
    server.stop()
    for place in (taken, server.dir):
        data = everything(place, but=("master.key",)) + server.log.read_bytes()
        for _, kek in keys:
            for form in (kek, kek[:16], kek[16:], kek.hex().encode(), b64(kek).encode()):
                assert form not in data
        assert (place / "master.key").read_bytes().strip() not in data
    assert (taken / "master.key").stat().st_mode & 0o777 == 0o600
    (taken / "master.key").unlink()
    for source in ([], ["--key-source", f"file:{tmp_path}/another"]):
        if source:
            (tmp_path / "another").write_text("5a" * 32)
            (tmp_path / "another").chmod(0o600)
        r = subprocess.run([*command(), str(taken), "--listen", "127.0.0.1:0", *source], capture_output=True, text=True, timeout=30)
        assert r.returncode != 0 and "key" in r.stderr, r
    assert not (taken / "master.key").exists(), "a lost master key is not made anew"


@pytest.mark.parametrize("source,wrong", [
    ("command:printf %064d 7", ["command:printf %064d 8", "command:false", "command:echo", "passphrase:", "server:file:x", "file:/no"]),
    ("systemd-creds:master", ["systemd-creds:other", "systemd-creds:no", "systemd-creds:../credentials/master"])],
    ids=["command", "systemd-creds"])
def test_the_master_key_from_elsewhere(tmp_path, monkeypatch, source, wrong):
    """The key is nowhere in the data directory; another one opens nothing and changes nothing."""
    credentials = tmp_path / "credentials"  # as LoadCredentialEncrypted= leaves them
    credentials.mkdir()
    for name in ("master", "other"):
        (credentials / name).write_text(os.urandom(32).hex())
        (credentials / name).chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    def start(data, source):
        port = tmp_path / "port"
        port.unlink(missing_ok=True)
        p = subprocess.Popen([*command(), str(data), "--listen", "127.0.0.1:0", "--port-file", str(port), "--key-source", source],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while p.poll() is None and not (port.exists() and port.read_text()):
            time.sleep(0.01)
        return p, int(port.read_text()) if p.poll() is None else 0

    server = Server(tmp_path)
    process, server.port = start(server.dir, source)
    d = Device(server.client())
    try:
        d.enrol()
        key = d.kek()
        d.client.close()
        process.kill()
        process.wait()
        assert not (server.dir / "master.key").exists()
        for other in wrong:
            process, port = start(server.dir, other)
            assert not port and process.wait() != 0 and process.stderr.read().startswith("cachet: "), other
        process, d.client.port = start(server.dir, source)
        assert d.kek() == key
        d.client.close()
    finally:
        process.kill()
        process.wait()


def test_a_sealed_key_put_under_another_kid_is_not_served(server, device):
    """Who can write the database cannot give a device the key of another."""
    other = Device(server.client())
    other.enrol()
    (a, _), (b, _) = device.kek(), other.kek()
    server.stop()
    subprocess.run(["sqlite3", str(server.dir / "records.db"),
                    f"UPDATE keks SET wrapped = (SELECT wrapped FROM keks WHERE kid = '{b}') WHERE kid = '{a}'"], check=True)
    server.start()
    device.client.port = server.port
    device.client.close()
    answer, _ = device.ask()
    assert answer.status == 500 and "wrappedKEK" not in answer.json


def test_what_happens_to_devices_is_in_the_audit_log(server, device):
    kid, kek = device.kek()
    device.kek(verb="rotate")
    device.call("POST", f"/v1/devices/{device.dkid}/trust", {"untrusted": True})
    admin(server, "device", "revoke", device.dkid)
    log = audit(server)
    assert [e["what"] for e in log if device.dkid in e["subject"]] == [
        "device-enrol", "kek-rotate", "kek-issue", "kek-rotate", "kek-issue", "device-untrust", "device-revoke"]
    assert {e["who"] for e in log if e["what"] == "kek-issue"} == {"tester, token 1"}
    text = json.dumps(log)
    assert kid in text and kek.hex() not in text and b64(kek) not in text and "a laptop" not in text
    assert "as they were written" in admin(server, "audit", "--verify")
