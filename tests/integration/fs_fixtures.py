"""A mount without an origin (tests/tools/fsmount.c), for tests of the file system alone.

CACHET_FSMOUNT names the program (default: build/tests/tools/fsmount below the project).
"""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FSMOUNT = pathlib.Path(os.environ.get("CACHET_FSMOUNT", ROOT / "build" / "tests" / "tools" / "fsmount"))
STOP_S = 20


class Mount:
    """One volume and its mount; start() after stop() or kill() opens the same volume again."""

    def __init__(self, limit=0):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="cachet-fs-"))
        self.home.chmod(0o711)  # another user may go through to the mount
        self.path = self.home / "mnt"
        self.state = self.home / "state"
        self.path.mkdir()
        self.state.mkdir(mode=0o700)
        self.limit = limit
        self.process = None
        self.log = open(self.home / "log", "ab")

    def start(self):
        self.process = subprocess.Popen(
            [str(FSMOUNT), str(self.state), str(self.path), str(self.limit)],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        assert line == "ready\n", (self.home / "log").read_text()
        return self

    def _end(self):
        code = self.process.wait(STOP_S)
        self.process.stdout.close()
        self.process = None
        return code

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self._end()

    def kill(self):
        self.process.kill()
        self._end()
        subprocess.run(["fusermount3", "-uz", str(self.path)], check=False, capture_output=True)

    def remount(self):
        """Everything that was answered is read from the volume, nothing from the kernel's cache."""
        assert self.stop() == 0
        return self.start()

    def close(self):
        try:
            if self.process and self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
        finally:
            subprocess.run(["fusermount3", "-uz", str(self.path)], check=False, capture_output=True)
            self.log.close()
            shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture
def fsmount():
    if not FSMOUNT.exists():
        pytest.fail(f"{FSMOUNT} is not built")
    m = Mount()
    try:
        yield m.start()
        # The daemon must have lived through the test and end in order; a leak report is an exit code too.
        assert m.process is None or m.process.poll() is None, (m.home / "log").read_text()
        if m.process:
            assert m.stop() == 0, (m.home / "log").read_text()
    finally:
        m.close()


@pytest.fixture
def mnt(fsmount):
    """The mounted directory."""
    return fsmount.path
