"""Promise P2 at the places that hurt: SIGKILL at every named failpoint of the product, `init` and first start included.

Needs a build with failpoints (CACHET_FAILPOINTS_BIN). CACHET_ROUNDS (default 1) kills at each name that many times, at another
occurrence each; CACHET_SEED reproduces. CACHET_ERRORS=1 lets each fail with an I/O error as well."""
import os
import pathlib
import random
import re
import signal
import subprocess
import time

import pytest

from conftest import BIN, ROOT, Client, is_mounted, kill_and_wait, unmount, wait_for
from test_sigkill import Writer

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")
ROUNDS = int(os.environ.get("CACHET_ROUNDS", "1"))
SEED = int(os.environ.get("CACHET_SEED", "1"))

pytestmark = pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")


def names():
    """Every failpoint of the daemon's code, but those of a rekey (test_rekey.py)."""
    found = set()
    for folder in ("base", "crypto", "meta", "cache", "sync"):
        for source in (ROOT / folder).glob("*.c"):
            found |= set(re.findall(r'FAILPOINT\("([a-z0-9-]+)"\)', source.read_text()))
    assert len(found) > 10
    return sorted(n for n in found if not n.startswith("rekey-"))


class Killed(Client):
    """A client whose daemon or init can be told to die at a failpoint."""

    def __init__(self, home, server, **kw):
        super().__init__(home, server, binary=pathlib.Path(FAILPOINTS_BIN), **kw)
        self.fired = home / "fired"

    def armed(self, rule, *args):
        env = {**self.env, "CACHET_FAILPOINTS": rule, "CACHET_FAILPOINTS_LOG": str(self.fired)}
        return subprocess.run([str(self.binary), *args], env=env, capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, check=False)


@pytest.fixture
def killed(home, server):
    c = Killed(home, server)
    yield c
    c.close()


def test_init_killed_at_every_step_can_be_run_again(home, server):
    token = home / "token"
    token.write_text(server.token)
    token.chmod(0o600)
    n, fired = 0, True
    while fired:
        n += 1 if ROUNDS > 1 else 4
        top = home / f"round{n}"
        top.mkdir()
        (top / "run").mkdir(mode=0o700)
        (top / "mnt").mkdir()
        env = {**os.environ, "HOME": str(top), "XDG_CONFIG_HOME": str(top / "config"),
               "XDG_STATE_HOME": str(top / "state"), "XDG_RUNTIME_DIR": str(top / "run")}
        command = [FAILPOINTS_BIN, "init", "--store", "notes", "--token-file", str(token), server.url]
        r = subprocess.run(command, env={**env, "CACHET_FAILPOINTS": f"*={n}:kill"}, capture_output=True, check=False)
        fired = r.returncode == -signal.SIGKILL
        again = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert again.returncode == 0 or "already" in again.stderr, f"killed at step {n}: {again.stderr}"
        try:
            r = subprocess.run([str(BIN), "mount", str(top / "mnt")], env=env, capture_output=True, text=True, check=False)
            assert r.returncode == 0, f"killed at step {n}: {r.stderr}"
            (top / "mnt" / f"after{n}").write_bytes(b"works")
            subprocess.run([str(BIN), "umount", str(top / "mnt")], env=env, check=True)
        finally:
            unmount(top / "mnt")
    assert n > 3, "no failpoint of init fired"


def one_kill(client, rule, rng, states):
    """Mounts with the rule, works until the daemon dies there or for a moment; True if it fired."""
    client.fired.unlink(missing_ok=True)
    started = client.armed(rule, "mount", str(client.mnt))
    writers = []
    if started.returncode == 0 and is_mounted(client.mnt):
        pid = int(client.status()["pid"]) if client.run("status", check=False).returncode in (0, 1, 2) else 0
        writers = [Writer(client.mnt, i, rng.random(), states[i]) for i in range(2)]
        for w in writers:
            w.start()
        end = time.monotonic() + 1.5
        while time.monotonic() < end and not client.fired.exists():
            time.sleep(0.02)
        if pid:
            kill_and_wait(pid, signal.SIGKILL)
        for w in writers:
            w.join(30)
            assert not w.is_alive(), "a writer hangs on the dead mount"
    fired = client.fired.exists()
    wait_for(lambda: not is_mounted(client.mnt) or unmount(client.mnt) or not is_mounted(client.mnt))
    return fired, writers


def test_the_daemon_killed_at_every_failpoint_loses_nothing(killed):
    rng = random.Random(SEED)
    killed.mount()
    states = [{} for _ in range(2)]
    killed.umount()
    never = set(names())
    for name in names():
        for round_ in range(ROUNDS):
            rule = f"{name}={1 if round_ == 0 else rng.randrange(2, 40)}:kill"
            fired, writers = one_kill(killed, rule, rng, states)
            if fired:
                never.discard(name)
            killed.mount()
            bad = [b for w in writers for b in w.check()]
            assert not bad, f"seed {SEED}, {rule}: {bad[:3]}"
            killed.umount()
    killed.mount()
    killed.sync(120, "--allow-deletes")
    assert killed.status()["pending"] == 0
    print(f"seed {SEED}: killed at {len(names()) - len(never)} failpoints, never reached: {sorted(never)}")
    assert len(names()) - len(never) >= 8
