"""What a bad link does to a mount: state, cached and absent content, writes; nothing is lost, and how it comes back.

The table of docs/architecture.md, row by row. The line is a TLS front before the real server that stops being one.
Answers that are cut, corrupt, twice, late or in another order: scripts/model and tests/integration/test_sync.py.
"""
import datetime
import errno
import ipaddress
import os
import re
import signal
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli_fixtures import edit_config
from conftest import Client, is_mounted, kill_and_wait, wait_for
from hostile import Hostile

LONG = 120
PAGE = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\n%sContent-Length: 40\r\nConnection: close\r\n\r\n<html><form action=/login></form></html>"
CANNED = {
    "portal": PAGE % (b"200 OK", b""),
    "redirect": PAGE % (b"302 Found", b"Location: https://login.example/\r\n"),
    "gateway": PAGE % (b"503 Service Unavailable", b"Retry-After: 1\r\n"),
}
PROBLEM = ('{{"type":"urn:cachet:{}","title":"no","status":{},"instance_id":"{}"}}')
BUSY = {"too-many": 429, "busy": 503}


def certificate(directory, name, ip=True, hours=24):
    """(PEM of certificate, file of both); self-signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName(name + ".example")] + ([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if ip else [])
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(hours=hours))
            .add_extension(x509.SubjectAlternativeName(names), False).sign(key, hashes.SHA256()))
    pem = made.public_bytes(serialization.Encoding.PEM)
    path = directory / f"{name}.pem"
    path.write_bytes(pem + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                             serialization.NoEncryption()))
    return pem, path


class Front:
    def __init__(self, server, directory):
        self.server, self.mode, self.open, self.tls = server, "pass", set(), {}
        trusted = b""
        for name, more in (("good", {}), ("expired", {"hours": -1}), ("other-host", {"ip": False}), ("other-ca", {})):
            pem, path = certificate(directory, name, **more)
            self.tls[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls[name].load_cert_chain(path)
            trusted += pem if name != "other-ca" else b""
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(trusted)
        self.port = 0
        self.listen()
        self.url = f"https://127.0.0.1:{self.port}"
        self.instance = server.request("GET", "/v1")[1]["Cachet-Instance"]

    def listen(self):
        self.socket = socket.create_server(("127.0.0.1", self.port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.socket,), daemon=True).start()

    def be(self, mode):
        """From now on, for the connections that are open too."""
        was, self.mode = self.mode, mode
        if mode == "refuse":
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
        elif was == "refuse":
            self.listen()
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        self.open.add(s)
        try:
            while self.mode == "hole":
                time.sleep(0.1)
            t = self.tls.get(self.mode, self.tls["good"]).wrap_socket(s, server_side=True)
            self.open.add(t)
            self.answer(t)
            t.close()
        except (OSError, ValueError):
            pass
        finally:
            s.close()

    def answer(self, t):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = t.recv(65536)
            if not piece:
                return
            head += piece
        if self.mode == "loris":
            for byte in b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 10_000:
                if self.mode != "loris":
                    return
                t.sendall(bytes([byte]))
                time.sleep(0.5)
        elif self.mode in CANNED:
            t.sendall(CANNED[self.mode])
        elif self.mode in BUSY:
            body = PROBLEM.format(self.mode, BUSY[self.mode], self.instance).encode()
            t.sendall(b"HTTP/1.1 %d X\r\nContent-Type: application/problem+json\r\nCachet-Instance: %s\r\nRetry-After: 1\r\n"
                      b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (BUSY[self.mode], self.instance.encode(), len(body)) + body)
        else:
            self.pass_on(t, head)

    def pass_on(self, t, head):
        with socket.create_connection(("127.0.0.1", self.server.port)) as up:
            up.sendall(head)
            threading.Thread(target=self.pump, args=(t, up), daemon=True).start()
            self.pump(up, t)

    def pump(self, a, b):
        try:
            while data := a.recv(65536):
                if self.mode == "skew":
                    data = re.sub(rb"\r\nDate: [^\r]+", b"\r\nDate: Thu, 01 Jan 2037 07:00:00 GMT", data)
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture
def front(server, tmp_path):
    f = Front(server, tmp_path)
    yield f
    f.be("pass")
    f.socket.close()


@pytest.fixture
def device(server, front, make_client):
    """Mounted behind the front: "cached" is here, "absent" is listed only."""
    server.write("notes", "cached", b"cached")
    server.write("notes", "absent", b"absent")
    c = make_client(cache_size=os.environ.get("CACHET_SIZE", "500MB"))
    edit_config(c, origin=front.url, ca_file=str(front.ca), deadline_ms=2000)
    c.mount()
    wait_for(lambda: (c.mnt / "absent").exists())
    assert (c.mnt / "cached").read_bytes() == b"cached"
    return c


def fails(code, path):
    with pytest.raises(OSError) as e:
        path.read_bytes()
    assert e.value.errno == code, e.value


def in_state(c, *states):
    c.run("sync")
    return wait_for(lambda: c.status()["state"] in states and c.status(), LONG)


def comes_back(c, server):
    """All that was written meanwhile is at the origin, what was absent can be read."""
    c.sync(LONG)
    assert c.status()["state"] == "online" and not c.status()["conflicts"]
    assert (c.mnt / "absent").read_bytes() == b"absent"
    for name in ("mine", "cached"):
        assert server.read("notes", name) == (c.mnt / name).read_bytes() == b"written meanwhile"


def work(c):
    for name in ("mine", "cached"):
        (c.mnt / name).write_bytes(b"written meanwhile")


ROWS = [(how, "offline", errno.EHOSTUNREACH) for how in (
    "refuse", "hole", "loris", "other-ca", "expired", "other-host", "portal", "redirect", "gateway")]
ROWS += [(how, "degraded", errno.EHOSTUNREACH) for how in BUSY]


@pytest.mark.parametrize("how,state,code", ROWS)
def test_a_fault_of_the_link(device, front, server, how, state, code):
    front.be(how)
    s = in_state(device, state)
    assert s["last_error"]
    assert (device.mnt / "cached").read_bytes() == b"cached"
    fails(code, device.mnt / "absent")
    work(device)
    assert sorted(os.listdir(device.mnt)) == ["absent", "cached", "mine"]
    front.be("pass")
    comes_back(device, server)


def test_a_name_that_does_not_resolve(device, front, server):
    device.umount()
    edit_config(device, origin=f"https://nowhere.invalid:{front.port}")
    device.mount()
    in_state(device, "offline")
    assert (device.mnt / "cached").read_bytes() == b"cached"
    fails(errno.EHOSTUNREACH, device.mnt / "absent")
    work(device)
    device.umount()
    edit_config(device, origin=front.url)
    device.mount()
    comes_back(device, server)


def test_a_token_that_is_not_good_any_more(device, server, tmp_path):
    server.admin("token", "revoke", "1", str(server.dir))
    in_state(device, "auth-needed")
    assert (device.mnt / "cached").read_bytes() == b"cached"
    fails(errno.EACCES, device.mnt / "absent")
    work(device)
    server.token = server.admin("token", "add", "--account", "tester", str(server.dir)).strip()
    new = tmp_path / "token"
    new.write_text(server.token)
    new.chmod(0o600)
    device.run("token", "--token-file", str(new))
    comes_back(device, server)


def test_clocks_that_are_years_apart_change_nothing(device, front, server):
    front.be("skew")
    in_state(device, "online")
    assert (device.mnt / "absent").read_bytes() == b"absent"
    work(device)
    comes_back(device, server)


@pytest.mark.parametrize("end", ["umount", "sigterm", "offline"])
def test_much_that_is_unsent_holds_nothing_up(device, front, end):
    """A black hole, and 100 MB (CACHET_UNSENT_MB, then with CACHET_SIZE) on their way into it."""
    front.be("hole")
    with open(device.mnt / "much", "wb") as f:
        for _ in range(int(os.environ.get("CACHET_UNSENT_MB", "100"))):
            f.write(os.urandom(1_000_000))
    pid = device.pid()
    start = time.monotonic()
    if end == "sigterm":
        kill_and_wait(pid, signal.SIGTERM, LONG)
    else:
        device.run(end, *([str(device.mnt)] if end == "umount" else []))
    took = time.monotonic() - start
    print(f"{end}: {took:.2f} s")
    assert took < 10  # 2 s are promised, on a machine that has nothing else to do
    if end == "offline":
        assert device.status()["state"] == "forced-offline"
    else:
        wait_for(lambda: not is_mounted(device.mnt))
        assert device.status()["pending"] >= 1


def test_a_long_retry_after_is_said_and_not_waited_for(home):
    server = Hostile()
    server.token = "t0ken"
    c = Client(home, server)
    try:
        c.mount()
        server.misbehave("batch put", "too_many")
        (c.mnt / "f").write_bytes(b"f")
        wait_for(lambda: c.status()["paused_ms"] > 2_000_000)
        r = c.run("sync", "--wait", check=False)
        assert r.returncode == 10 and "wants not to be asked" in r.stderr
        assert "not asked again for" in c.run("status").stdout
        server.behave()
        c.sync()  # a person asks
        assert c.status()["paused_ms"] == 0
    finally:
        c.close()
        server.close()
