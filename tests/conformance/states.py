"""What the mount is doing while a suite runs on it, and the proof that it did.

    with STATES[name](client, server) as state: ...run...
    state.said()

Each counts how often what it is about has happened; a state that never came about fails the run.
"""
import contextlib
import json
import os
import threading
import time

from conftest import Client


class Online:
    """The origin is there, everything is sent as it is made."""
    mount = ()
    cache_size = "500MB"

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.stop = threading.Event()
        self.times = 0
        self.error = None

    def before(self):
        """What has to be there first, before the mount."""

    def once(self):
        """One round beside the suite; how often it happened grows in self.times."""
        self.stop.wait(1)

    def work(self):
        try:
            while not self.stop.is_set():
                self.once()
        except Exception as e:  # pylint: disable=broad-except
            self.error = e

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def said(self):
        return ""

    def happened(self):
        return self.error is None


class Offline(Online):
    """As on a journey."""
    mount = ("--offline",)


class Busy(Online):
    what = ""

    def said(self):
        return f", {self.times} {self.what}" + (f", {self.error!r}" if self.error else "")

    def happened(self):
        return self.error is None and self.times > 0


class Replay(Busy):
    """Offline for two seconds, online for two: what the suite made is sent while it goes on."""
    what = "times offline and online again"

    def once(self):
        self.client.run("offline")
        self.stop.wait(2)
        self.client.run("online")
        self.times += 1
        self.stop.wait(2)


class Evict(Busy):
    """More than fits is read all the time beside the suite."""
    what = "MB fetched over a bound of 64 MB"
    cache_size = "64MB"
    files, size = 24, 4 << 20

    def before(self):
        other = Client(self.client.home.parent, self.server, name="filler")
        try:
            other.mount()
            (other.mnt / "ballast").mkdir()
            for i in range(self.files):
                (other.mnt / "ballast" / f"{i}").write_bytes(self.content(i))
            other.sync()
            other.umount()
        finally:
            other.close()

    def content(self, i):
        return i.to_bytes(4, "little") * (self.size // 4)

    def once(self):
        for i in range(self.files):
            if self.stop.is_set():
                return
            path = self.client.mnt / "ballast" / f"{i}"
            if path.read_bytes() != self.content(i):
                raise AssertionError("what was fetched is not what was sent")
            os.posix_fadvise(fd := os.open(path, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
            self.times += self.size >> 20


class Rekey(Busy):
    """The keys change all the time."""
    what = "rekeys"

    def once(self):
        began = json.loads(self.client.run("rekey", "--json", "--wait", timeout=600).stdout)
        if began.get("error"):
            raise AssertionError(began)
        self.times += 1
        with contextlib.suppress(InterruptedError):
            time.sleep(0.2)


STATES = {"offline": Offline, "online": Online, "replay": Replay, "evict": Evict, "rekey": Rekey}
