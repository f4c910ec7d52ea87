"""Key sources of the machine, each with the real thing: the kernel's keyring, a directory of credentials as the
service manager gives it, and gnome-keyring on a session bus of its own."""
import os
import shutil
import signal
import subprocess

import pytest

from conftest import BIN, Client, wait_for

HEX = "00112233445566778899aabbccddeeff" * 2
needs_helper = pytest.mark.skipif(not (BIN.parent / "cachet-secret-service").exists(), reason="built without libsecret")


def opens_again(client, server):
    """Written, unmounted, mounted again: the same key came back."""
    client.mount()
    (client.mnt / "f").write_bytes(b"kept")
    client.sync()
    client.umount()
    client.mount()
    assert (client.mnt / "f").read_bytes() == b"kept"
    client.run("lock", str(client.mnt))
    client.run("unlock", str(client.mnt))
    assert (client.mnt / "f").read_bytes() == b"kept"
    client.umount()
    assert server.read("notes", "f") == b"kept"


@pytest.mark.parametrize("prefix", ["", "server:"])
def test_a_credential_of_the_service_manager_opens_the_volume(home, make_client, server, monkeypatch, prefix):
    credentials = home / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "volume-key").write_text(HEX)
    (credentials / "volume-key").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    c = make_client(key=f"{prefix}systemd-creds:volume-key")
    opens_again(c, server)
    (credentials / "volume-key").unlink()
    r = c.run("mount", str(c.mnt), check=False)
    assert r.returncode != 0 and "not there" in r.stderr
    assert (c.volume / "keyring.json").exists()


@pytest.mark.parametrize("prefix", ["", "server:"])
def test_a_key_of_the_kernel_opens_the_volume_until_it_is_gone(make_client, server, prefix):
    if not shutil.which("keyctl"):
        pytest.skip("keyctl (keyutils) is not there")
    name = f"cachet-test-{os.getpid()}-{len(prefix)}"
    add = subprocess.run(["keyctl", "padd", "user", name, "@u"], input=HEX, capture_output=True, text=True, check=False)
    if add.returncode:
        pytest.skip(f"no user keyring here: {add.stderr}")
    key = add.stdout.strip()
    try:
        subprocess.run(["keyctl", "setperm", key, "0x3f0b0000"], check=True)
        c = make_client(key=f"{prefix}kernel:{name}")
        opens_again(c, server)
    finally:
        subprocess.run(["keyctl", "unlink", key, "@u"], check=True, capture_output=True)
    r = c.run("mount", str(c.mnt), check=False)
    assert r.returncode != 0 and "keyctl padd" in r.stderr


@pytest.fixture
def key_ring(home, monkeypatch):
    """A session bus of its own with gnome-keyring on it, unlocked with the password "x"; how to lock it."""
    for tool in ("dbus-daemon", "gnome-keyring-daemon"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not there")
    run = home / "bus"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_DATA_HOME", str(run / "data"))
    bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address=1", f"--address=unix:dir={run}"],
                           stdout=subprocess.PIPE, text=True)
    address = bus.stdout.readline().strip()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    env = {**os.environ, "XDG_RUNTIME_DIR": str(run), "HOME": str(run)}
    ring = subprocess.Popen(["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets",
                             f"--control-directory={run}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, text=True, env=env)
    ring.stdin.write("x")
    ring.stdin.close()

    def has_service():
        r = subprocess.run(["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/",
                            "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"], env=os.environ,
                           capture_output=True, text=True, check=False)
        return "true" in r.stdout
    wait_for(has_service)
    yield run
    for process in (ring, bus):
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@needs_helper
@pytest.mark.parametrize("prefix", ["", "server:"])
def test_the_desktops_key_ring_keeps_the_key(home, make_client, server, key_ring, prefix):
    c = make_client(key=f"{prefix}secret-service:notes")
    opens_again(c, server)
    assert not list((home / "client" / "config").rglob("*.key")), "the key is in the key ring alone"


@needs_helper
def test_a_second_volume_of_the_same_name_takes_the_same_key_and_never_a_new_one(make_client, server, key_ring):
    first = make_client("one", key="secret-service:shared")
    make_client("two", key="secret-service:shared")
    opens_again(first, server)


@needs_helper
def test_without_a_key_ring_the_sentence_says_so(home, server, monkeypatch):
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={home}/nobody")
    with pytest.raises(AssertionError, match="no secret service answers"):
        Client(home, server, key="secret-service:notes")
