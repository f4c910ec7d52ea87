"""A volume whose key the server holds: enrolment against an independent implementation of the protocol, the offline
lease, rotation, revocation. keyserver.py is the server's side; it is told to lie here."""
import base64
import hashlib
import json
import os
import time

import pytest

import keyring_reader as reader
from cli_fixtures import Snapshot, edit_config, fails
from conftest import Client, is_mounted, wait_for
from keyserver import KeyServer


@pytest.fixture
def keyserver(server):
    k = KeyServer(server)
    yield k
    k.stop()


@pytest.fixture
def enrolled(home, keyserver):
    c = Client(home, keyserver, key="server")
    yield c
    c.close()


def record(client):
    return json.loads((client.volume / "keyring.json").read_text())


def cat(path):
    with open(path, "rb") as f:
        return f.read()


def umounted(client):
    wait_for(lambda: not is_mounted(client.mnt))
    wait_for(lambda: client.run("status", "--json", check=False).returncode != 8)


def test_an_enrolled_machine_opens_its_volume_and_a_second_start_makes_nothing_new(enrolled, keyserver):
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"one")
    enrolled.sync()
    enrolled.umount()
    enrolled.mount()
    assert (enrolled.mnt / "x").read_bytes() == b"one"
    assert len(keyserver.devices) == 1 and len(keyserver.keks) == 1
    d = record(enrolled)["device"]
    assert keyserver.devices[d["dkid"]]["pub"] == base64.b64decode(d["deviceKeys"]["pubRawB64"])


def test_keys_lists_names_and_ages_and_no_bytes(enrolled, keyserver):
    shown = enrolled.run("keys").stdout + enrolled.run("keys", "--json").stdout
    j = json.loads(enrolled.run("keys", "--json").stdout)
    assert {k["purpose"] for k in j["keys"]} >= {"index"}
    assert j["pub_sha256"] == hashlib.sha256(next(iter(keyserver.devices.values()))["pub"]).hexdigest()
    for kek in keyserver.keks.values():
        assert kek.hex()[:8] not in shown and base64.b64encode(kek).decode()[:8] not in shown


def test_doctor_compares_the_public_key_with_the_servers(enrolled, keyserver):
    checks = {c["check"]: c for c in json.loads(enrolled.run("doctor", "--json", check=False).stdout)["checks"]}
    assert checks["device"]["ok"]
    keyserver.mischief = lambda path, status, answer: {**answer, "dk_pub_sha256": "0" * 64} if path == "/v1/devices" else answer
    checks = {c["check"]: c for c in json.loads(enrolled.run("doctor", "--json", check=False).stdout)["checks"]}
    assert not checks["device"]["ok"] and "point" in checks["device"]["text"]
    assert len(keyserver.devices) == 1


def test_token_and_device_key_are_sealed_in_the_keyring(enrolled, keyserver):
    text = (enrolled.volume / "keyring.json").read_text()
    assert keyserver.token not in text
    for kek in keyserver.keks.values():
        assert base64.b64encode(kek).decode() not in text


def prefixes(secret):
    """What no sentence may have of it: its beginning as it is, in hexadecimal, in base64."""
    return [secret[:8], secret[:8].hex().encode(), base64.b64encode(secret[:6])]


def test_no_sentence_list_or_log_has_a_secret_or_the_beginning_of_one(home, keyserver, enrolled):
    """Of key, token, device secret and device key; when all goes well, and when every stage fails."""
    said = []

    def run(*args):
        r = enrolled.run(*args, check=False)
        said.append((r.stdout + r.stderr).encode())
    enrolled.mount()
    for verb in ("keys", "doctor", "status", "events", "rotate"):
        run(verb)
        run(verb, "--json")
    enrolled.umount()
    for flaw in (*FLAWS.values(), *(resigned(keyserver, change) for change in BAD_WRAPS.values())):
        keyserver.mischief = flaw
        run("mount", str(enrolled.mnt))
        run("rotate")
        run("enroll")
        run("umount", str(enrolled.mnt))
    local = bytes.fromhex(next((home / "client" / "config").rglob("*.key")).read_text())
    device = reader.open_device(record(enrolled)["device"], local)
    scalar = device["key"].private_numbers().private_value.to_bytes(32, "big")
    secrets = [local, keyserver.token.encode(), scalar, *keyserver.keks.values()]
    assert len(said) > 30 and all(len(s) >= 32 for s in secrets)
    said += [p.read_bytes() for p in enrolled.volume.rglob("*.log") if p.name != "unsent.log"]
    assert not [p for text in said for s in secrets for p in prefixes(s) if p in text]


FLAWS = {
    "the device upsert": lambda path, s, a: {k: v for k, v in a.items() if k != "serverKey"} if path == "/v1/devices" else a,
    "the point": lambda path, s, a: {**a, "dk_pub_sha256": "1" * 64} if path == "/v1/devices" else a,
    "the signature": lambda path, s, a: {**a, "signature": base64.b64encode(bytes(64)).decode()} if path.endswith("/kek") else a,
    "the wrapped KEK": lambda path, s, a: {**a, "wrappedKEK": {**a["wrappedKEK"], "ct": "AAAA"}} if path.endswith("/kek") else a,
    "rawKEK": lambda path, s, a: {**{k: v for k, v in a.items() if k != "wrappedKEK"}, "rawKEK": base64.b64encode(bytes(32)).decode()}
    if path.endswith("/kek") else a,
}


@pytest.mark.parametrize("stage", FLAWS)
def test_a_failed_enrolment_names_its_stage_and_leaves_nothing(home, keyserver, stage):
    keyserver.mischief = FLAWS[stage]
    with pytest.raises(AssertionError) as e:
        Client(home, keyserver, key="server")
    assert stage in str(e.value)
    assert not list((home / "client" / "state").rglob("*")) or not list((home / "client" / "state").rglob("keyring.json"))


def resigned(keyserver, change):
    """A server that wraps wrongly but signs rightly: only the arithmetic can see it."""
    def mischief(path, status, a):
        if not path.endswith("/kek"):
            return a
        w = change(dict(a["wrappedKEK"]))
        nonce = base64.b64decode(a["nonce"])
        sig = keyserver.sign("cachet kek v1", path.split("/")[3], a["kid"], nonce, hashlib.sha256(base64.b64decode(w["ct"])).digest())
        return {**a, "wrappedKEK": w, "signature": sig}
    return mischief


BAD_WRAPS = {
    "point": lambda w: {**w, "eph_pub": base64.b64encode(b"\x04" + bytes(64)).decode()},
    "tag": lambda w: {**w, "salt": base64.b64encode(bytes(16)).decode()},
}


@pytest.mark.parametrize("stage,change", BAD_WRAPS.items())
def test_a_bad_wrap_that_is_signed_fails_in_the_arithmetic(home, keyserver, stage, change):
    keyserver.mischief = resigned(keyserver, change)
    with pytest.raises(AssertionError) as e:
        Client(home, keyserver, key="server")
    assert f"enrolment failed at {stage}" in str(e.value) and "65 bytes" in str(e.value)


def test_another_devices_answer_and_a_replayed_one_are_refused_and_change_nothing(home, keyserver, enrolled):
    first = {}

    def keep(path, status, a):
        if path.endswith("/kek"):
            first.setdefault("answer", a)
        return a
    keyserver.mischief = keep
    enrolled.run("rotate", check=False)
    enrolled.mount()
    enrolled.umount()
    before = Snapshot(enrolled.volume)
    keyserver.mischief = lambda path, s, a: first["answer"] if path.endswith("/kek") else a
    assert "signature" in fails(enrolled, 7, "mount", str(enrolled.mnt))
    keyserver.mischief = None
    other = Client(home, keyserver, name="other", key="server")
    foreign = [a for a in keyserver.devices][-1]
    keyserver.mischief = lambda path, s, a: keyserver.kek(foreign, {"nonce": a["nonce"]})[1] if path.endswith("/kek") else a
    assert "signature" in fails(enrolled, 7, "mount", str(enrolled.mnt))
    assert Snapshot(enrolled.volume) == before
    other.close()


def test_raw_keys_are_taken_only_when_the_configuration_says_so(enrolled, keyserver):
    def unwrapped(path, s, a):
        if not path.endswith("/kek"):
            return a
        return {**{k: v for k, v in a.items() if k != "wrappedKEK"}, "rawKEK": base64.b64encode(keyserver.keks[a["kid"]]).decode()}
    keyserver.mischief = unwrapped
    assert "rawKEK" in fails(enrolled, 1, "mount", str(enrolled.mnt))
    edit_config(enrolled, allow_raw_kek=True)
    enrolled.mount()


# --- the lease ---

def test_a_cold_start_without_the_server_works_while_the_lease_holds(enrolled, keyserver, server):
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"here")
    enrolled.sync()
    enrolled.umount()
    keyserver.stop()
    enrolled.mount()
    assert (enrolled.mnt / "x").read_bytes() == b"here"
    (enrolled.mnt / "y").write_bytes(b"offline")
    assert json.loads(enrolled.run("keys", "--json").stdout)["from_lease"]


def test_a_lease_that_is_over_locks_and_loses_nothing(enrolled, keyserver):
    keyserver.offline_ttl = 3
    enrolled.mount("--offline")
    enrolled.umount()
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"unsent or not")
    enrolled.umount()
    port = keyserver.http.server_address[1]
    time.sleep(3.2)
    assert "lease is over" in fails(enrolled, 6, "mount", "--offline", str(enrolled.mnt))
    assert port and not is_mounted(enrolled.mnt)
    enrolled.mount()
    assert (enrolled.mnt / "x").read_bytes() == b"unsent or not"


def test_a_mount_locks_itself_when_its_lease_ends_and_unlocks_at_the_next_contact(enrolled, keyserver):
    keyserver.offline_ttl = 2
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"x")
    enrolled.run("offline")
    wait_for(lambda: enrolled.status()["state"] == "locked")
    with pytest.raises(PermissionError):
        (enrolled.mnt / "x").read_bytes()
    enrolled.run("unlock")
    assert (enrolled.mnt / "x").read_bytes() == b"x"


def test_a_mounted_volume_renews_its_lease_before_it_ends(enrolled, keyserver):
    keyserver.offline_ttl = 12
    enrolled.mount()
    first = json.loads(enrolled.run("keys", "--json").stdout)["lease_until_s"]
    wait_for(lambda: json.loads(enrolled.run("keys", "--json").stdout)["lease_until_s"] > first)
    assert enrolled.status()["state"] == "online"
    keyserver.offline_ttl = 3600
    enrolled.umount()


def test_a_server_that_allows_no_lease_gets_none(enrolled, keyserver):
    keyserver.offline_ttl = 0
    enrolled.mount()
    enrolled.umount()
    assert "lease" not in record(enrolled)["device"]
    assert "does not exist" in fails(enrolled, 6, "mount", "--offline", str(enrolled.mnt))


def test_a_lease_is_not_lengthened_by_hand(enrolled, keyserver):
    keyring = record(enrolled)
    keyring["device"]["lease"]["until"] += 10**6
    (enrolled.volume / "keyring.json").write_text(json.dumps(keyring))
    assert "damaged" in fails(enrolled, 7, "mount", "--offline", str(enrolled.mnt))


# --- rotation ---

def test_rotation_rewraps_a_mounted_volume_and_another_device_follows(home, enrolled, keyserver):
    other = Client(home, keyserver, name="other", key="server")
    try:
        enrolled.mount()
        (enrolled.mnt / "x").write_bytes(b"one")
        enrolled.sync()
        enrolled.run("rotate")
        assert keyserver.current == "kek-2"
        kids = {e["kid"] for e in record(enrolled)["entries"]}
        assert kids == {"kek-2"} and record(enrolled)["kid"] == "kek-2"
        (enrolled.mnt / "y").write_bytes(b"two")
        enrolled.sync()
        other.mount()
        other.sync()
        assert (other.mnt / "y").read_bytes() == b"two"
        assert record(other)["kid"] == "kek-2"
    finally:
        other.close()


def test_a_device_that_missed_a_rotation_recovers_when_it_starts(enrolled, keyserver):
    keyserver.rotate()
    keyserver.rotate()
    enrolled.mount()
    assert record(enrolled)["kid"] == "kek-3"
    assert any("preferKid" in body and body["preferKid"] == "kek-1" for _, body in keyserver.asked)


@pytest.mark.parametrize("lease", [True, False], ids=["lease", "no-lease"])
def test_a_device_that_missed_a_rotation_and_was_removed_opens_nothing(enrolled, keyserver, lease):
    """By the server's word its lease goes as well; a wrap of a former key is of no use to it."""
    keyserver.offline_ttl = 3600 if lease else 0
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"x")
    enrolled.sync()
    enrolled.umount()
    keyserver.rotate()
    revoke(keyserver)
    fails(enrolled, 6, "mount", str(enrolled.mnt))
    for args in (("mount", str(enrolled.mnt)), ("mount", "--offline", str(enrolled.mnt)), ("rotate",), ("rekey",), ("keys",)):
        fails(enrolled, 6, *args)
    assert not {"deviceKeys", "token", "lease"} & set(record(enrolled)["device"])
    assert "kek-2" not in {body.get("preferKid") for _, body in keyserver.asked}


def test_an_old_keyring_put_back_after_a_rotation_is_refused(enrolled, keyserver):
    old = (enrolled.volume / "keyring.json").read_text()
    enrolled.mount()
    enrolled.run("rotate")
    enrolled.umount()
    (enrolled.volume / "keyring.json").write_text(old)
    keyserver.current = "kek-1"  # a server put back as well
    assert "older copy" in fails(enrolled, 7, "mount", str(enrolled.mnt))


def test_a_server_that_lost_the_current_key_is_told_and_changes_nothing(enrolled, keyserver):
    """Its kid goes backwards: restored from a copy made before the rotation. There is no lease to help."""
    keyserver.offline_ttl = 0
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"x")
    enrolled.sync()
    enrolled.run("rotate")
    enrolled.umount()
    before, lost = Snapshot(enrolled.volume), keyserver.keks.pop("kek-2")
    keyserver.current = "kek-1"
    assert "does not have the key" in fails(enrolled, 1, "mount", str(enrolled.mnt))
    assert Snapshot(enrolled.volume) == before
    keyserver.keks["kek-2"], keyserver.current = lost, "kek-2"
    enrolled.mount()
    assert (enrolled.mnt / "x").read_bytes() == b"x"


def test_another_key_under_the_current_name_is_told_and_changes_nothing(enrolled, keyserver):
    keyserver.offline_ttl = 0
    enrolled.mount()
    enrolled.umount()
    before, right = Snapshot(enrolled.volume), keyserver.keks["kek-1"]
    keyserver.keks["kek-1"] = os.urandom(32)
    assert "failed at the CEK: the server's key does not open this keyring" in fails(enrolled, 6, "mount", str(enrolled.mnt))
    assert Snapshot(enrolled.volume) == before
    keyserver.keks["kek-1"] = right
    enrolled.mount()


# --- revocation ---

def revoke(keyserver):
    for d in keyserver.devices.values():
        d["state"] = "revoked"


def test_a_revoked_device_with_nothing_unsent_is_erased_and_opens_nothing(enrolled, keyserver):
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"sent")
    enrolled.sync()
    before = record(enrolled)
    revoke(keyserver)
    enrolled.run("rotate", check=False)
    wait_for(lambda: enrolled.status()["state"] == "locked")
    after = record(enrolled)
    assert after["entries"] == [] and before["entries"]
    assert not {"deviceKeys", "token", "lease"} & set(after["device"])
    enrolled.run("umount", str(enrolled.mnt), check=False)
    umounted(enrolled)
    fails(enrolled, 6, "mount", "--offline", str(enrolled.mnt))
    fails(enrolled, 6, "mount", str(enrolled.mnt))


def test_unsent_work_survives_a_revocation_and_is_sent_after_re_enrolment(enrolled, keyserver, server, home):
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"sent")
    enrolled.sync()
    enrolled.run("offline")
    (enrolled.mnt / "y").write_bytes(b"not sent")
    revoke(keyserver)
    enrolled.run("rotate", check=False)
    assert record(enrolled)["entries"], "the wraps of unsent work stay"
    wait_for(lambda: enrolled.status()["state"] == "locked")
    with pytest.raises(PermissionError):
        (enrolled.mnt / "y").read_bytes()
    fails(enrolled, 6, "unlock")
    enrolled.run("umount", str(enrolled.mnt), check=False)
    umounted(enrolled)
    fails(enrolled, 6, "mount", str(enrolled.mnt))
    token = home / "new-token"
    token.write_text(server.token)
    enrolled.run("enroll", "--token-file", str(token))
    enrolled.mount()
    assert (enrolled.mnt / "y").read_bytes() == b"not sent"
    enrolled.sync()
    assert server.read("notes", "y") == b"not sent"
    assert (enrolled.mnt / "x").read_bytes() == b"sent"


@pytest.mark.parametrize("forge", ["unsigned", "replayed", "foreign"])
def test_a_revocation_that_the_pinned_key_did_not_sign_for_this_request_erases_nothing(enrolled, keyserver, forge):
    enrolled.mount()
    enrolled.umount()
    dkid, old_nonce = next(iter(keyserver.devices)), os.urandom(32)
    stranger = KeyServer.sign.__get__(type("S", (), {"sign_key": type(keyserver.sign_key).generate()})())

    def lie(path, status, a):
        if not path.endswith("/kek"):
            return a
        nonce = base64.b64decode(a["nonce"])
        sign = stranger if forge == "foreign" else keyserver.sign
        sig = sign("cachet device-revoked v1", dkid, "kek-1", old_nonce if forge == "replayed" else nonce)
        return keyserver.problem(403, "device-revoked", dkid=dkid, kid="kek-1", nonce=a["nonce"],
                                 **({} if forge == "unsigned" else {"signature": sig}))
    keyserver.mischief = lie
    before = record(enrolled)
    enrolled.mount()   # by the lease
    enrolled.umount()
    assert record(enrolled)["device"]["deviceKeys"] and record(enrolled)["entries"] == before["entries"]
    keyserver.mischief = None
    enrolled.mount()


def test_a_server_that_does_not_trust_the_machine_changes_nothing_on_its_disk(enrolled, keyserver):
    for d in keyserver.devices.values():
        d["state"] = "untrusted"
    before = Snapshot(enrolled.volume)
    assert "not to be trusted" in fails(enrolled, 6, "mount", str(enrolled.mnt))
    assert Snapshot(enrolled.volume) == before
    for d in keyserver.devices.values():
        d["state"] = "ok"
    enrolled.mount()


FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")


@pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs a build with failpoints: CACHET_FAILPOINTS_BIN")
def test_a_rotation_killed_at_every_step_leaves_a_volume_that_opens(enrolled, keyserver):
    """Steps of fetching, rewrapping, publishing and noting in the index: the first, the second … until none is left."""
    normal, binary = enrolled.env, enrolled.binary
    for name in ("rotate-fetched", "rotate-rewrapped", "publish-write", "publish-fsync", "publish-rename", "publish-dirsync",
                 "rotate-saved", "rotate-indexed"):
        n, fired = 0, True
        while fired:
            n += 1
            enrolled.binary = FAILPOINTS_BIN
            enrolled.env = {**normal, "CACHET_FAILPOINTS": f"{name}={n}:kill"}
            r = enrolled.run("rotate", check=False)
            fired = r.returncode < 0
            enrolled.binary, enrolled.env = binary, normal
            keys = json.loads(enrolled.run("keys", "--json").stdout)
            assert {k["kid"] for k in keys["keys"]} == {keys["kid"]}, (name, n)
        assert n > 1, f"{name} was never reached"
    enrolled.mount()
    (enrolled.mnt / "x").write_bytes(b"x")
    enrolled.sync()
    assert record(enrolled)["kid"] == keyserver.current


# --- wipe ---

def test_wipe_destroys_keys_data_and_configuration(client):
    (client.mnt / "x").write_bytes(b"x")
    client.sync()
    fails(client, 8, "wipe", "default")
    client.umount()
    volume = client.volume
    client.run("wipe", "default")
    assert not volume.exists() and not (client.home / "config" / "cachet" / "default.json").exists()


def test_wipe_refuses_while_work_is_unsent_unless_forced(client):
    client.run("offline")
    (client.mnt / "x").write_bytes(b"x")
    client.umount()
    before = Snapshot(client.volume)
    assert "not sent" in fails(client, 9, "wipe", "default")
    assert set(Snapshot(client.volume).files) >= {p for p in before.files if p.name == "keyring.json"}
    client.run("wipe", "--force", "default")
    assert not list((client.home / "state" / "cachet").iterdir())


@pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs a build with failpoints: CACHET_FAILPOINTS_BIN")
def test_a_wipe_killed_behind_the_keys_opens_nothing_and_is_finished_by_the_next(client):
    (client.mnt / "x").write_bytes(b"x")
    client.sync()
    client.umount()
    volume, binary, env = client.volume, client.binary, client.env
    client.binary, client.env = FAILPOINTS_BIN, {**env, "CACHET_FAILPOINTS": "wipe-erased=1:kill"}
    assert client.run("wipe", "default", check=False).returncode < 0
    client.binary, client.env = binary, env
    assert not (volume / "keyring.json").exists()
    assert client.run("mount", str(client.mnt), check=False).returncode
    client.run("wipe", "--force", "default")
    assert not volume.exists()
