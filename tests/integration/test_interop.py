"""Keyring, device record, lease and the server's envelope, byte for byte with a second implementation (keyring_reader.py and
enrolment.py, from the pages alone): it opens what cachet wrote, and cachet what it wrote."""
import json
import os

import pytest
from cryptography.exceptions import InvalidTag

import keyring_reader as reader
from cli_fixtures import fails
from conftest import Client
from enrolment import Device


@pytest.fixture
def enrolled(home, server):
    """A volume that was used and rotated once, unmounted."""
    c = Client(home, server, key="server")
    c.mount()
    (c.mnt / "x").write_bytes(b"written by cachet")
    c.sync()
    c.run("rotate")
    c.umount()
    yield c
    c.close()


def keyring(client):
    return json.loads((client.volume / "keyring.json").read_text())


def put_keyring(client, ring):
    (client.volume / "keyring.json").write_text(json.dumps(ring))


def key_file(client):
    return next((client.home / "config" / "cachet").glob("*.key"))


def secret_of(client):
    return bytes.fromhex(key_file(client).read_text().strip())


def test_the_second_implementation_opens_device_record_lease_and_every_key(enrolled, server):
    ring = keyring(enrolled)
    opened = reader.open_device(ring["device"], secret_of(enrolled))
    assert opened["token"].decode() == server.token
    assert ring["kid"] == ring["device"]["kid"] and ring["device"]["rotation"] == 1
    keys = {e["purpose"]: reader.open_entry(e, opened["lease"]) for e in ring["entries"]}
    assert set(keys) == {"index", "cek"} and all(len(k) == 32 for k in keys.values())


class Http:
    """What enrolment.Device needs of a client, with the token of the volume."""

    def __init__(self, server):
        self.server = server

    def call(self, method, path, body, headers):
        status, _, answer = self.server.request(method, path, json.dumps(body), {**headers, "Content-Type": "application/json"})
        return type("Answer", (), {"status": status, "json": json.loads(answer)})


def test_with_the_device_key_of_the_record_the_server_gives_the_key_of_the_lease(enrolled, server):
    ring = keyring(enrolled)
    opened = reader.open_device(ring["device"], secret_of(enrolled))
    device = Device(Http(server), ring["device"]["deviceId"])
    device.private, device.dkid = opened["key"], ring["device"]["dkid"]
    device.server_key = reader.unb64(ring["device"]["serverKey"], 32)
    assert device.kek() == (ring["kid"], opened["lease"])


def test_cachet_opens_a_keyring_and_a_device_record_that_another_program_sealed(enrolled):
    """All of it anew: another device secret, other wraps; by the lease first, then with the server."""
    ring, secret = keyring(enrolled), os.urandom(32)
    opened = reader.open_device(ring["device"], secret_of(enrolled))
    kek = opened["lease"]
    ring["entries"] = [reader.wrap_entry(e, kek, ring["kid"], reader.open_entry(e, kek)) for e in ring["entries"]]
    ring["device"] = reader.seal_device(ring["device"], secret, opened)
    put_keyring(enrolled, ring)
    key_file(enrolled).write_text(secret.hex() + "\n")
    for how in (["--offline"], []):
        enrolled.mount(*how)
        assert (enrolled.mnt / "x").read_bytes() == b"written by cachet"
        enrolled.umount()


def test_keys_of_a_rekey_carry_their_first_number_in_the_additional_data(enrolled):
    enrolled.run("rekey")
    enrolled.mount()
    enrolled.run("rekey", "--wait", check=False)
    enrolled.umount()
    ring = keyring(enrolled)
    kek = reader.open_device(ring["device"], secret_of(enrolled))["lease"]
    assert any("from" in e for e in ring["entries"])
    for e in ring["entries"]:
        reader.open_entry(e, kek)
        if "from" in e:
            with pytest.raises(InvalidTag):
                reader.open_entry({**e, "from": e["from"] + 1}, kek)


@pytest.mark.parametrize("change", ["kid", "epoch", "createdAt"])
def test_an_entry_that_says_something_else_is_refused_by_both(enrolled, change):
    ring = keyring(enrolled)
    kek = reader.open_device(ring["device"], secret_of(enrolled))["lease"]
    e = next(e for e in ring["entries"] if e["purpose"] == "index")
    e[change] = ring["kid"][:-1] + "~" if change == "kid" else e[change] + 1
    with pytest.raises((InvalidTag, AssertionError)):
        reader.open_entry(e, kek)
    put_keyring(enrolled, ring)
    assert "fails at its tag or its AAD" in fails(enrolled, 7, "mount", str(enrolled.mnt))


def test_a_store_whose_key_was_taken_away_fetches_anew_and_keeps_what_is_unsent_for_the_right_keyring(enrolled):
    enrolled.mount("--offline")
    (enrolled.mnt / "unsent").write_bytes(b"u" * 70000)
    enrolled.umount()
    right = keyring(enrolled)
    put_keyring(enrolled, {**right, "entries": [{**e, "store": "0" * 32} if e["purpose"] == "cek" else e for e in right["entries"]]})
    enrolled.mount()
    assert (enrolled.mnt / "x").read_bytes() == b"written by cachet"
    with pytest.raises(OSError):
        (enrolled.mnt / "unsent").read_bytes()
    assert '"unsent":true' in enrolled.run("events").stdout
    enrolled.umount()
    put_keyring(enrolled, right)
    enrolled.mount()
    assert (enrolled.mnt / "unsent").read_bytes() == b"u" * 70000
    assert (enrolled.mnt / "x").read_bytes() == b"written by cachet"
