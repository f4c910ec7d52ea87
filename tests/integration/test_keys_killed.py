"""Kills at random steps of all that changes a keyring: enrolling, rotating (asked for, or announced by the server),
renewing the lease, being revoked and enrolled anew. After each one the volume opens, with one key around all others.

Needs a build with failpoints (CACHET_FAILPOINTS_BIN). CACHET_KILLS (default 12) kills; CACHET_SEED reproduces."""
import json
import os
import pathlib
import random

import pytest

from conftest import BIN, Client, is_mounted, unmount, wait_for

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")
KILLS = int(os.environ.get("CACHET_KILLS", "12"))
SEED = int(os.environ.get("CACHET_SEED", "1"))

pytestmark = pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")


class Campaign:
    def __init__(self, home, server):
        self.server, self.rng = server, random.Random(SEED)
        self.client = Client(home, server, key="server")
        self.token = home / "token"
        self.token.write_text(server.token)
        self.token.chmod(0o600)

    def killed(self, *args):
        """Runs a verb that dies, itself or its daemon, at a random step; whether it did."""
        normal, fired = self.client.env, self.token.with_name("fired")
        fired.unlink(missing_ok=True)
        self.client.env = {**normal, "CACHET_FAILPOINTS": f"*={self.rng.randrange(1, 25)}:kill",
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
        keys = json.loads(self.client.run("keys", "--json", name).stdout)
        assert {k["kid"] for k in keys["keys"]} == {keys["kid"]}


def test_kills_while_keys_change_leave_a_volume_that_opens(home, server):
    c = Campaign(home, server)
    try:
        c.client.mount("--offline")
        (c.client.mnt / "unsent").write_bytes(b"kept")
        c.client.umount()
        fired, actions, done = 0, [c.enrol, c.rotate, c.announced, c.lease, c.revoke], 0
        while fired < KILLS:
            action = actions[done % len(actions)]
            fired, done = fired + action(), done + 1
            c.opens("default")
            assert done < 20 * KILLS + 20, "the kills do not fire"
        c.client.mount("--offline")
        assert (c.client.mnt / "unsent").read_bytes() == b"kept"
        print(f"seed {SEED}: {fired} kills in {done} rounds")
    finally:
        c.client.close()
