"""A large upload that was cut off goes on where it was: the server's side by hand, then the product on both sides."""
import hashlib
import os
import socket
import threading
import time
import types

import pytest

import server_fixtures
from conftest import Client, wait_for

MIB = 1 << 20
SIZE = 4 * MIB
BODY = os.urandom(SIZE)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    s = server_fixtures.Server(tmp_path_factory.mktemp("uploads")).start()
    yield s
    s.close()


class Put:
    """A PUT whose body is sent by hand."""

    def __init__(self, origin, name, token=None):
        self.origin, self.name, self.key = origin, name, server_fixtures.new_key()
        self.token = token or origin.token
        self.client = origin.client(self.token)
        self.tmp = origin.dir / "tmp"
        self.before = set(self.tmp.iterdir())

    def send(self, body, length, offset=0, extra=""):
        s = socket.create_connection(("127.0.0.1", self.origin.port), timeout=30)
        s.sendall((f"PUT /v1/stores/main/records/{self.name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n"
                   f"Idempotency-Key: {self.key}\r\nIf-None-Match: *\r\nCachet-Parent: root\r\nCachet-Name: {self.name}\r\n"
                   f"Content-Length: {length}\r\n" + (f"Cachet-Offset: {offset}\r\n" if offset else "") + extra + "\r\n").encode())
        s.sendall(body)
        return s

    def arrived(self, upto):
        """Without asking, which would end the connection's right to send."""
        def size(f):
            try:
                return f.stat().st_size
            except FileNotFoundError:  # the oldest of too many
                return -1
        return any(size(f) == upto for f in set(self.tmp.iterdir()) - self.before)

    def cut(self, upto, offset=0):
        """Sends up to there, and no more."""
        s = self.send(BODY[offset:upto], SIZE - offset, offset)
        wait_for(lambda: self.arrived(upto))
        s.close()
        assert self.asked() == upto

    def ask(self):
        return self.client.call("GET", f"/v1/stores/main/uploads/{self.key}")

    def asked(self):
        a = self.ask()
        return a.json["offset"] if a.status == 200 else -1

    def finish(self, offset, body=None):
        return self.client.put(self.name, BODY[offset:] if body is None else body, name=self.name, key=self.key,
                               **({"Cachet_Offset": str(offset)} if offset else {}))


def test_a_body_that_was_cut_off_goes_on_and_is_whole(origin):
    p = Put(origin, "whole")
    p.cut(MIB + 17)
    p.cut(3 * MIB, MIB + 17)
    a = p.finish(3 * MIB)
    assert a.status == 201 and a.json["sha256"] == hashlib.sha256(BODY).hexdigest() and a.json["size"] == SIZE
    assert p.client.get("whole").body == BODY
    assert p.ask().status == 404
    again = p.client.put("whole", BODY, name="whole", key=p.key)  # sent whole it is the same request
    assert again.status == 201 and again.headers["Cachet-Replayed"] == "true"


def test_nothing_of_an_unfinished_body_is_to_be_seen(origin):
    p = Put(origin, "unfinished")
    p.cut(2 * MIB)
    assert p.client.get("unfinished").status == 404
    assert "unfinished" not in p.client.everything()[0]


@pytest.mark.parametrize("offset", [1, 2 * MIB - 1, 2 * MIB + 1, SIZE])
def test_another_offset_is_refused_and_the_body_stays(origin, offset):
    p = Put(origin, f"other{offset}")
    p.cut(2 * MIB)
    a = p.finish(offset, b"x" * 1000)  # refused before its body is read
    assert (a.status, a.problem) == (409, "no-upload")
    assert p.finish(2 * MIB).status == 201
    assert p.client.get(p.name).body == BODY


def test_an_older_connection_adds_nothing_once_another_asked(origin):
    p = Put(origin, "older")
    old = p.send(BODY[:MIB], SIZE)
    wait_for(lambda: p.arrived(MIB))
    assert p.asked() == MIB
    try:
        old.sendall(b"!" * MIB)
    except OSError:
        pass
    assert p.finish(MIB).status == 201
    old.close()
    assert p.client.get("older").body == BODY


def test_from_the_front_begins_anew(origin):
    p = Put(origin, "anew")
    p.cut(2 * MIB)
    assert p.finish(0).status == 201
    assert p.client.get("anew").body == BODY


def test_the_upload_of_another_account_is_not_there(origin):
    p = Put(origin, "mine")
    p.cut(MIB)
    stranger = Put(origin, "theirs", origin.new_token(account="stranger"))
    stranger.key = p.key
    assert stranger.ask().status == 404
    assert stranger.finish(MIB, b"x" * 1000).problem == "no-upload"
    assert p.finish(MIB).status == 201


def test_a_precondition_is_judged_as_ever(origin):
    p = Put(origin, "taken")
    p.cut(2 * MIB)
    p.client.make("taken2", "taken")
    a = p.finish(2 * MIB)
    assert (a.status, a.problem) == (409, "place-taken")
    assert p.client.get("taken").status == 404


def test_unfinished_bodies_have_a_bound(origin):
    puts = [Put(origin, f"n{i}", origin.new_token(account="many")) for i in range(17)]
    for i, p in enumerate(puts):
        p.token = puts[0].token
        p.client = origin.client(p.token)
        p.cut((200 << 10) + i)
    assert [p.asked() for p in puts] == [-1] + [(200 << 10) + i for i in range(1, 17)]
    assert not puts[0].arrived(200 << 10)


def test_a_bad_offset_and_a_bad_name_are_refused(origin):
    p = Put(origin, "bad")
    for bad in ("-1", "x", "1.5", "99999999999999999999"):
        assert p.client.put("bad", BODY[:10], name="bad", Cachet_Offset=bad).status == 400
    assert p.client.call("GET", "/v1/stores/main/uploads/nothex").status == 400
    assert p.client.put("bad", b"", name="bad", Cachet_Offset=str(1 << 63)).problem == "no-upload"


# --- what is sent ahead of its PUT ---


class Ahead(Put):
    """Parts of BODY under a key of their own."""

    def __init__(self, origin, name, token=None):
        super().__init__(origin, name, token)
        self.parts = server_fixtures.new_key()

    def part(self, begin, end, **headers):
        return self.client.call("PUT", f"/v1/stores/main/uploads/{self.parts}", BODY[begin:end],
                                {**({"Cachet-Offset": str(begin)} if begin else {}), **headers})

    def adopt(self, offset, sha256=None, rest=None, parts=None):
        sha256 = sha256 or hashlib.sha256(BODY[:offset]).hexdigest()
        return self.client.put(self.name, BODY[offset:] if rest is None else rest, name=self.name, key=self.key,
                               Cachet_Offset=str(offset), Cachet_Ahead=f"{parts or self.parts} {sha256}")


def test_parts_are_nowhere_until_a_put_names_them(origin):
    a = Ahead(origin, "ahead")
    assert a.part(0, MIB).json == {"offset": MIB}
    assert a.part(MIB, MIB + 17).json == {"offset": MIB + 17}
    assert a.client.get("ahead").status == 404 and "ahead" not in a.client.everything()[0]
    got = a.adopt(MIB + 17)
    assert got.status == 201 and got.json["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert a.client.get("ahead").body == BODY
    again = a.client.put("ahead", BODY, name="ahead", key=a.key)  # sent whole it is the same request
    assert again.status == 201 and again.headers["Cachet-Replayed"] == "true"


def test_a_put_whose_content_all_came_ahead_has_no_body(origin):
    a = Ahead(origin, "allahead")
    a.part(0, SIZE)
    assert a.adopt(SIZE).status == 201
    assert a.client.get("allahead").body == BODY


def test_parts_of_another_length_or_digest_are_not_published(origin):
    a = Ahead(origin, "digest")
    a.part(0, 2 * MIB)
    other = hashlib.sha256(b"another content").hexdigest()
    for answer in (a.adopt(2 * MIB, other, b"x" * 1000), a.adopt(MIB, rest=b"x" * 1000), a.adopt(3 * MIB, rest=b"x" * 1000),
                   a.adopt(2 * MIB, rest=b"x" * 1000, parts=server_fixtures.new_key())):
        assert (answer.status, answer.problem) == (409, "no-upload")
    assert a.client.get("digest").status == 404
    assert a.adopt(2 * MIB).status == 201


def test_parts_of_another_account_are_not_there(origin):
    a, b = Ahead(origin, "ours"), Ahead(origin, "stolen", origin.new_token(account="stranger"))
    a.part(0, MIB)
    b.parts = a.parts
    assert b.part(MIB, MIB + 1000).problem == "no-upload"
    assert b.adopt(MIB, rest=b"x" * 1000).problem == "no-upload"
    assert b.client.call("DELETE", f"/v1/stores/main/uploads/{a.parts}").status == 200
    assert a.adopt(MIB).status == 201


def test_an_adopted_body_that_is_cut_off_goes_on_by_the_key_of_the_put(origin):
    a = Ahead(origin, "adopted")
    a.part(0, MIB)
    sha256 = hashlib.sha256(BODY[:MIB]).hexdigest()
    s = a.send(BODY[MIB:2 * MIB], SIZE - MIB, MIB, f"Cachet-Ahead: {a.parts} {sha256}\r\n")
    wait_for(lambda: a.arrived(2 * MIB))
    s.close()
    assert a.asked() == 2 * MIB
    assert a.part(2 * MIB, 2 * MIB + 1000).problem == "no-upload"
    assert a.finish(2 * MIB).status == 201
    assert a.client.get("adopted").body == BODY


def test_parts_that_are_not_wanted_are_forgotten(origin):
    a = Ahead(origin, "unwanted")
    a.part(0, MIB)
    assert a.client.call("DELETE", f"/v1/stores/main/uploads/{a.parts}").status == 200
    assert a.part(MIB, MIB + 1000).problem == "no-upload"
    assert not a.arrived(MIB)


def test_a_bad_part_is_refused(origin):
    a = Ahead(origin, "badpart")
    read_only = origin.client(origin.new_token("--read-only", account="reader"))
    assert read_only.call("PUT", f"/v1/stores/main/uploads/{a.parts}", b"x").status == 403
    assert a.client.call("PUT", "/v1/stores/main/uploads/nothex", b"x").status == 400
    assert a.part(1, 10).problem == "no-upload"
    for bad in ("", "x", a.parts, f"{a.parts} 00", f"{a.parts}{'0' * 65}", f"{a.parts} {'g' * 64}"):
        assert a.client.put("badpart", b"", name="badpart", Cachet_Offset="1", Cachet_Ahead=bad).status == 400
    assert a.client.put("badpart", b"x", name="badpart", Cachet_Ahead=f"{a.parts} {'0' * 64}").status == 400


# --- the product on both sides ---


class Line:
    """TCP to the server that ends after so many bytes up; each cut once."""

    def __init__(self, port):
        self.port, self.cuts, self.sent = port, [], 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                down, _ = self.socket.accept()
                up = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            threading.Thread(target=self.pump, args=(down, up, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(up, down, False), daemon=True).start()

    def pump(self, a, b, is_up):
        try:
            n = 0
            while data := a.recv(65536):
                n += len(data)
                self.sent += len(data) if is_up else 0
                if is_up and self.cuts and n > self.cuts[0]:
                    self.cuts.pop(0)
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture
def line(server):
    made = Line(server.port)
    yield made
    made.socket.close()


def test_an_upload_over_a_line_that_breaks_is_sent_about_once(home, server, line):
    client = Client(home, types.SimpleNamespace(url=line.url, token=server.token))
    try:
        client.mount()
        body = os.urandom(24 * MIB)
        line.cuts = [8 * MIB, 8 * MIB]
        (client.mnt / "f").write_bytes(body)
        client.sync(120)
        assert not line.cuts
        assert server.read("notes", "f") == body
        assert line.sent < 30 * MIB
    finally:
        client.close()


def test_a_daemon_that_was_killed_goes_on_with_its_upload(server, client):
    client.run("online", "--upload-rate", "4MB")
    body = os.urandom(24 * MIB)
    (client.mnt / "f").write_bytes(body)
    wait_for(lambda: client.status()["sent_bytes"] > 8 * MIB)
    client.sigkill()
    client.mount()
    client.sync()
    assert server.read("notes", "f") == body
    assert client.status()["sent_bytes"] < 20 * MIB


def test_a_server_that_keeps_nothing_gets_it_whole_again(server, client):
    """Restarted in the middle it has forgotten what came."""
    client.run("online", "--upload-rate", "4MB")
    body = os.urandom(8 * MIB)
    (client.mnt / "f").write_bytes(body)
    wait_for(lambda: client.status()["sent_bytes"] > 3 * MIB)
    server.stop()
    client.run("online", "--upload-rate", "0")
    server.start()
    client.sync()
    assert server.read("notes", "f") == body


# --- sent while it is written ---


def undisturbed(client):
    """A file that is open and changed for 3 s is committed all the same, and sent: on a machine that is so slow nothing is to be learned."""
    return time.monotonic() - client.began < 2.5


def write_half(client, body):
    """A file that is open, of which most was written and the most of that was sent."""
    sent, client.began = client.status()["sent_bytes"], time.monotonic()
    f = open(client.mnt / "f", "wb", buffering=0)
    for i in range(0, 16 * MIB, MIB):
        f.write(body[i:i + MIB])
    wait_for(lambda: client.status()["sent_bytes"] - sent > 10 * MIB)
    return f


def test_a_file_is_sent_while_it_is_written_and_seen_when_it_is_committed(server, client):
    client.sync()
    body = os.urandom(20 * MIB + 4321)
    with write_half(client, body) as f:
        there = server.records("notes")
        assert "f" not in there or not undisturbed(client)
        f.write(body[16 * MIB:])
    quick = undisturbed(client)
    client.sync()
    assert server.read("notes", "f") == body
    assert client.status()["sent_bytes"] < 22 * MIB or not quick
    assert not list((server.dir / "tmp").iterdir())


def test_a_file_that_was_sent_without_it_is_not_held_open(server, client):
    """Nothing of it was settled when it had grown: it is sent when it is committed, and can go at once."""
    client.sync()
    path = client.mnt / "f"
    with path.open("wb") as f:
        for i in range(400):
            os.pwrite(f.fileno(), b"x" * 16000, i << 14)
        time.sleep(0.5)
    client.sync()
    wait_for(lambda: "1 file dropped" in client.run("free", path).stdout, 5)


def test_what_was_written_anew_after_it_was_sent_is_what_the_server_gets(server, client):
    client.sync()
    body = bytearray(os.urandom(16 * MIB))
    with write_half(client, body) as f:
        f.seek(5 * MIB + 1)
        body[5 * MIB + 1:5 * MIB + 4] = b"new"
        f.write(b"new")
    client.sync()
    assert server.read("notes", "f") == body
    wait_for(lambda: not list((server.dir / "tmp").iterdir()))


def test_a_file_that_was_renamed_over_another_takes_what_was_sent(server, client):
    (client.mnt / "g").write_bytes(b"old")
    client.sync()
    body = os.urandom(16 * MIB)
    with write_half(client, body):
        pass
    os.rename(client.mnt / "f", client.mnt / "g")
    quick = undisturbed(client)
    client.sync()
    assert server.read("notes", "g") == body and "f" not in server.records("notes")
    assert client.status()["sent_bytes"] < 20 * MIB or not quick


def test_a_server_that_restarts_meanwhile_gets_all_of_it(server, client):
    client.sync()
    body = os.urandom(20 * MIB)
    with write_half(client, body) as f:
        server.stop()
        server.start()
        f.write(body[16 * MIB:])
    client.sync()
    assert server.read("notes", "f") == body


def test_a_device_that_goes_offline_meanwhile_sends_it_later(server, client):
    client.sync()
    body = os.urandom(20 * MIB)
    with write_half(client, body) as f:
        client.run("offline")
        f.write(body[16 * MIB:])
    client.run("online")
    client.sync()
    assert server.read("notes", "f") == body


def test_a_daemon_that_is_killed_meanwhile_has_published_nothing(server, client):
    client.sync()
    f = write_half(client, os.urandom(16 * MIB))
    quick = undisturbed(client)
    client.sigkill()
    assert "f" not in server.records("notes") or not quick
    try:
        f.close()
    except OSError:
        pass
    client.mount()
    client.sync()
    here = (client.mnt / "f").read_bytes() if (client.mnt / "f").exists() else None
    assert (server.read("notes", "f") if here is not None else None) == here
