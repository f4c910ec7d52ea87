"""TLS to the origin: a certificate that is not trusted is never talked to, a trusted one works from end to end."""
import datetime
import http.client
import ipaddress
import signal
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import BIN, Client, Server, wait_for


def make_certificate(directory, name):
    """A self-signed certificate for `name` and 127.0.0.1; (certificate, key) as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName(name)] + ([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if name == "localhost" else [])
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.SubjectAlternativeName(names), False).sign(key, hashes.SHA256()))
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return directory / "cert.pem", directory / "key.pem"


class TlsServer(Server):
    """As Server, behind TLS."""

    def __init__(self, home, name):
        super().__init__(home)
        self.certificate, self.key = make_certificate(home, name)
        self.admin("store", "add", "notes", str(self.dir))

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(BIN), "serve", str(self.dir), "--listen", "127.0.0.1:0", "--port-file", str(self.port_file),
                 "--tls-cert", str(self.certificate), "--tls-key", str(self.key)], stdout=log, stderr=log)
        self.port = int(wait_for(lambda: self.port_file.exists() and self.port_file.read_text().strip()))
        return self

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture
def tls_server(home, request):
    s = TlsServer(home, getattr(request, "param", "localhost")).start()
    yield s
    s.stop()


def init(home, server, *options):
    """`cachet init` of a device of its own; the finished process."""
    for d in ("config", "state", "run"):
        (home / d).mkdir(mode=0o700, exist_ok=True)
    token = home / "token"
    token.write_text(server.token)
    token.chmod(0o600)
    return subprocess.run(
        [str(BIN), "init", "--store", "notes", "--token-file", str(token), *options, server.url],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
             "XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(home / "run")},
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)


def test_a_certificate_nobody_trusts_is_refused_with_its_reason(home, tls_server):
    r = init(home, tls_server)
    assert r.returncode == 4 and "certificate" in r.stderr, r.stderr
    assert not list((home / "config").rglob("*.json")), "nothing is left behind"


@pytest.mark.parametrize("tls_server", ["records.example"], indirect=True)
def test_a_certificate_of_another_name_is_refused(home, tls_server):
    r = init(home, tls_server, "--ca-file", str(tls_server.certificate))
    assert r.returncode == 4, r.stderr
    assert not list((home / "config").rglob("*.json"))


def test_records_travel_over_tls(home, tls_server):
    r = init(home, tls_server, "--ca-file", str(tls_server.certificate))
    assert r.returncode == 0, r.stderr
    c = Client.__new__(Client)
    c.home, c.mnt, c.binary = home, home / "mnt", BIN
    c.mnt.mkdir()
    c.env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
             "XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(home / "run")}
    try:
        c.mount()
        (c.mnt / "x.txt").write_bytes(b"over TLS" * 100000)
        c.sync()
        assert c.status()["state"] == "online" and c.status()["pending"] == 0
    finally:
        c.close()


def test_a_new_certificate_is_served_at_sighup_and_no_connection_is_dropped(tls_server):
    s = tls_server
    old = s.certificate.read_text()

    def connect(trusted):
        c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=10, context=ssl.create_default_context(cadata=trusted))
        ask(c)
        return c

    def ask(c):
        c.request("GET", "/v1", headers={"Authorization": "Bearer " + s.token})
        r = c.getresponse()
        assert r.status == 200 and r.read()

    def served():
        return ssl.get_server_certificate(("127.0.0.1", s.port))

    before = connect(old)
    make_certificate(s.certificate.parent, "localhost")
    new = s.certificate.read_text()
    s.process.send_signal(signal.SIGHUP)
    wait_for(lambda: served() == new)
    ask(before)
    after = connect(new)
    # What does not load, or does not belong together, changes nothing.
    good = s.key.read_text()
    for cert, key in (("junk", good), (old, good), (new, "junk")):
        s.certificate.write_text(cert)
        s.key.write_text(key)
        said = s.log.read_text().count("not reloaded")
        s.process.send_signal(signal.SIGHUP)
        wait_for(lambda said=said: s.log.read_text().count("not reloaded") > said)
        assert served() == new
    ask(before)
    ask(after)
