"""A client that runs as another user of the machine: root starts it, it is nobody in particular."""
import os
import pwd
import shutil
import subprocess

import pytest

from conftest import BIN, Client

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: root only")
user_mounts = pytest.mark.skipif(os.geteuid() != 0 or os.stat("/dev/fuse").st_mode & 0o006 != 0o006,
                                 reason="mounts as another user: needs root, and a /dev/fuse that is open to all")
NOBODY = pwd.getpwnam("nobody").pw_uid  # fusermount3 wants a name


def as_user(uid):
    return {"user": uid, "group": uid, "extra_groups": []}


def reachable(binary, home):
    """A copy below `home` that other users may start: the build may lie in a directory of root's own."""
    os.chmod(home, 0o711)
    copy = home / "cachet-for-others"
    if not copy.exists():
        shutil.copy(binary, copy)
        copy.chmod(0o755)
    return copy


class OtherUser(Client):
    def __init__(self, home, server, uid, **kw):
        self.uid = uid
        super().__init__(home, server, **{"binary": reachable(BIN, home), **kw})

    def run(self, *args, **kw):
        if self.home.stat().st_uid != self.uid:  # made by root just now
            subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", str(self.home)], check=True)
            self.home.chmod(0o700)
        return super().run(*args, **as_user(self.uid), **kw)
