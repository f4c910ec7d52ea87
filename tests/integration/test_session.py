"""Lock with the screen and before sleep: what logind says (python3-dbusmock's, on a private bus) becomes a lock."""
import os
import subprocess

import dbus
import pytest

from cli_fixtures import config_file, edit_config, fails
from conftest import BIN, wait_for

MOCK = "org.freedesktop.DBus.Mock"
LOGIND, PATH = "org.freedesktop.login1", "/org/freedesktop/login1"


class Logind:
    """A system bus of its own with logind on it."""

    def __init__(self, home):
        self.address = f"unix:path={home}/bus"
        self.bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", f"--address={self.address}"],
                                    stdout=subprocess.PIPE)
        assert self.bus.stdout.readline(), "no dbus-daemon"  # it says so when it listens
        self.mock, self.connection = None, dbus.bus.BusConnection(self.address)
        self.start()

    def start(self):
        self.mock = subprocess.Popen(["/usr/bin/python3", "-m", "dbusmock", "--template", "logind"], stdout=subprocess.DEVNULL,
                                     env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address})
        wait_for(lambda: self.connection.name_has_owner(LOGIND))
        self.manager = self.connection.get_object(LOGIND, PATH)
        wait_for(self.answers)

    def answers(self):
        try:
            self.inhibitors()
            return True
        except dbus.DBusException:
            return False

    def inhibitors(self):
        return [str(i[1]) for i in self.manager.ListInhibitors(dbus_interface=LOGIND + ".Manager") if i[0] == "sleep" and i[3] == "delay"]

    def session(self, uid, name="c1"):
        path = self.manager.AddSession(name, "seat0", dbus.UInt32(uid), "somebody", True, dbus_interface=MOCK)
        return dbus.Interface(self.connection.get_object(LOGIND, path), LOGIND + ".Session")

    def sleep(self, begin):
        self.manager.EmitSignal(LOGIND + ".Manager", "PrepareForSleep", "b", [begin], dbus_interface=MOCK)

    def stop(self):
        self.connection.close()
        for p in (self.mock, self.bus):
            p.terminate()
            p.wait(10)


@pytest.fixture
def logind(home):
    it = Logind(home)
    yield it
    it.stop()


@pytest.fixture
def listening(make_client, logind):
    """A mounted volume that listens for both, with a file in it."""
    c = make_client()
    edit_config(c, lock_on="screen,sleep")
    c.env["DBUS_SYSTEM_BUS_ADDRESS"] = logind.address
    c.mount()
    (c.mnt / "x").write_bytes(b"x")
    wait_for(lambda: logind.inhibitors() == ["cachet"])
    return c


def is_locked(client):
    return client.status()["state"] == "locked"


def test_the_screen_of_this_user_locks_and_unlocks(listening, logind):
    session = logind.session(os.getuid())
    session.Lock()
    wait_for(lambda: is_locked(listening))
    with pytest.raises(PermissionError):
        (listening.mnt / "x").read_bytes()
    session.Unlock()
    wait_for(lambda: not is_locked(listening))
    assert (listening.mnt / "x").read_bytes() == b"x"


def test_a_desktop_that_only_sets_the_hint_locks_too(listening, logind):
    session = logind.session(os.getuid())
    session.SetLockedHint(True)
    wait_for(lambda: is_locked(listening))
    session.SetLockedHint(False)
    wait_for(lambda: not is_locked(listening))


def test_the_screen_of_another_user_does_not_matter(listening, logind):
    logind.session(os.getuid() + 1).Lock()
    logind.sleep(True)  # heard after it
    wait_for(lambda: logind.inhibitors() == [])
    logind.sleep(False)
    wait_for(lambda: not is_locked(listening))


def test_sleep_waits_for_the_lock_and_waking_unlocks(listening, logind):
    logind.sleep(True)
    wait_for(lambda: logind.inhibitors() == [])
    assert is_locked(listening), "the machine may sleep before the keys are gone"
    logind.sleep(False)
    wait_for(lambda: not is_locked(listening))
    assert logind.inhibitors() == ["cachet"]


def test_a_screen_that_is_still_locked_after_sleep_keeps_it_locked(listening, logind):
    session = logind.session(os.getuid())
    session.Lock()
    logind.sleep(True)
    wait_for(lambda: logind.inhibitors() == [])
    logind.sleep(False)
    wait_for(lambda: logind.inhibitors() == ["cachet"])
    assert is_locked(listening)
    session.Unlock()
    wait_for(lambda: not is_locked(listening))


def test_what_a_person_locked_only_a_person_unlocks(listening, logind):
    listening.run("lock")
    logind.sleep(True)
    wait_for(lambda: logind.inhibitors() == [])
    logind.sleep(False)
    wait_for(lambda: logind.inhibitors() == ["cachet"])
    assert is_locked(listening)
    listening.run("unlock")


def test_a_key_that_is_gone_after_sleep_leaves_it_locked_and_mounted(listening, logind):
    key = next((listening.home / "config" / "cachet").glob("*.key"))
    logind.sleep(True)
    wait_for(lambda: logind.inhibitors() == [])
    key.rename(key.with_suffix(".away"))
    logind.sleep(False)
    log = listening.volume / "daemon.log"
    wait_for(lambda: "stays locked" in log.read_text())
    assert is_locked(listening)
    key.with_suffix(".away").rename(key)
    listening.run("unlock")
    assert (listening.mnt / "x").read_bytes() == b"x"


def test_without_a_bus_it_is_mounted_and_says_so(make_client, home):
    c = make_client()
    edit_config(c, lock_on="sleep")
    c.env["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={home}/no-bus"
    c.mount()
    wait_for(lambda: "no system bus" in (c.volume / "daemon.log").read_text())
    (c.mnt / "x").write_bytes(b"x")
    c.umount()


def test_an_unknown_word_is_named_and_the_option_is_kept(make_client, server):
    c = make_client()
    edit_config(c, lock_on="screen,never")
    assert "lock_on" in fails(c, 2, "mount", str(c.mnt))
    token = c.home / "t"
    token.write_text(server.token)
    c.run("init", "--name", "two", "--store", "notes", "--token-file", str(token), "--lock-on", "sleep", server.url)
    assert '"lock_on"' in config_file(c, "two").read_text()
