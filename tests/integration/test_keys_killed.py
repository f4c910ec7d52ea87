"""Kills at random steps of all that changes a keyring: enrolling, rotating (asked for, or announced by the server),
renewing the lease, changing the keys inside, being revoked and enrolled anew. After each one the volume opens, with one key around all others.

Needs a build with failpoints (CACHET_FAILPOINTS_BIN). CACHET_KILLS (default 12) kills; CACHET_SEED reproduces."""
import json
import os
import pathlib
import random
import re

import pytest

from conftest import BIN, ROOT, Client, is_mounted, unmount, wait_for

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")
KILLS = int(os.environ.get("CACHET_KILLS", "12"))
SEED = int(os.environ.get("CACHET_SEED", "1"))

pytestmark = pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")

REKEY = sorted({n for folder in ("meta", "cache") for source in (ROOT / folder).glob("*.c")
                for n in re.findall(r'FAILPOINT\("(rekey-[a-z-]+)"\)', source.read_text())})


class Campaign:
    def __init__(self, home, server):
        self.server, self.rng = server, random.Random(SEED)
        self.client = Client(home, server, key="server")
        self.token = home / "token"
        self.token.write_text(server.token)
        self.token.chmod(0o600)

    def killed(self, *args, rule=None):
        """Runs a verb that dies, itself or its daemon, at a random step; whether it did."""
        normal, fired = self.client.env, self.token.with_name("fired")
        fired.unlink(missing_ok=True)
        self.client.env = {**normal, "CACHET_FAILPOINTS": rule or f"*={self.rng.randrange(1, 25)}:kill",
                           "CACHET_FAILPOINTS_LOG": str(fired)}
        self.client.binary = pathlib.Path(FAILPOINTS_BIN)
        try:
            self.client.run(*args, check=False)
            if args[0] == "mount":
                self.client.run("umount", str(self.client.mnt), check=False)
                wait_for(lambda: unmount(self.client.mnt) or not is_mounted(self.client.mnt))
            return fired.exists()
        finally:
            self.client.env, self.client.binary = normal, BIN

    def enrol(self):
        init = ("init", "--name", "other", "--store", "notes", "--key", "server", "--token-file", str(self.token), self.server.url)
        fired = self.killed(*init)
        again = self.client.run(*init, check=False)
        assert again.returncode == 0 or "already" in again.stderr, again.stderr
        self.opens("other")
        self.client.run("wipe", "--force", "other")
        return fired

    def rotate(self):
        return self.killed("rotate", "default")

    def announced(self):
        self.server.admin("rotate", "--all", str(self.server.dir))
        return self.killed("mount", str(self.client.mnt))

    def lease(self):
        return self.killed("mount", str(self.client.mnt))

    def rekey(self):
        """What a kill cuts short the next one goes on with, and the last is let live."""
        rule = f"{self.rng.choice(REKEY)}={self.rng.randrange(1, 4)}:kill" if self.rng.random() < .5 else \
            f"*={self.rng.randrange(1, 150)}:kill"
        fired = self.killed("rekey", "default", rule=rule)
        if self.rng.random() < .5:
            j = json.loads(self.client.run("rekey", "--json", "default").stdout)
            assert not j["active"]
            keys = json.loads(self.client.run("keys", "--json", "default").stdout)["keys"]
            assert len(keys) == len({(k["purpose"], k["store"]) for k in keys}), "an old key is left"
        return fired

    def revoke(self):
        dkid = json.loads(self.client.run("keys", "--json", "default").stdout)["dkid"]
        self.server.admin("device", "revoke", dkid, str(self.server.dir))
        fired = self.killed("rotate", "default")
        assert self.client.run("rotate", "default", check=False).returncode == 6
        enroll = ("enroll", "--token-file", str(self.token), "default")
        fired = self.killed(*enroll) or fired
        self.client.run(*enroll)
        return fired

    def opens(self, name):
        # A daemon whose mount was taken from it closes the volume in its own time (exit 8: in use).
        wait_for(lambda: self.client.run("keys", "--json", name, check=False).returncode != 8)
        keys = json.loads(self.client.run("keys", "--json", name).stdout)
        assert {k["kid"] for k in keys["keys"]} == {keys["kid"]}


def test_kills_while_keys_change_leave_a_volume_that_opens(home, server):
    c = Campaign(home, server)
    try:
        c.client.mount("--offline")
        (c.client.mnt / "unsent").write_bytes(b"kept")
        large = c.rng.randbytes(1_000_000)
        (c.client.mnt / "large").write_bytes(large)
        c.client.umount()
        fired, actions, done = 0, [c.enrol, c.rotate, c.announced, c.lease, c.rekey, c.revoke], 0
        while fired < KILLS:
            action = actions[done % len(actions)]
            fired, done = fired + action(), done + 1
            c.opens("default")
            assert done < 20 * KILLS + 20, "the kills do not fire"
        c.client.mount("--offline")
        assert (c.client.mnt / "unsent").read_bytes() == b"kept"
        assert (c.client.mnt / "large").read_bytes() == large
        print(f"seed {SEED}: {fired} kills in {done} rounds")
    finally:
        c.client.close()
