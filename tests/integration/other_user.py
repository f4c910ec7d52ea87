"""A client that runs as another user of the machine: root starts it, it is nobody in particular."""
import os
import pwd
import subprocess

import pytest

from conftest import Client

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: root only")
user_mounts = pytest.mark.skipif(os.geteuid() != 0 or os.stat("/dev/fuse").st_mode & 0o006 != 0o006,
                                 reason="mounts as another user: needs root, and a /dev/fuse that is open to all")
NOBODY = pwd.getpwnam("nobody").pw_uid  # fusermount3 wants a name


def as_user(uid):
    return {"user": uid, "group": uid, "extra_groups": []}


class OtherUser(Client):
    def __init__(self, home, server, uid, **kw):
        self.uid = uid
        os.chmod(home, 0o711)
        super().__init__(home, server, **kw)

    def run(self, *args, **kw):
        if self.home.stat().st_uid != self.uid:  # made by root just now
            subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", str(self.home)], check=True)
            self.home.chmod(0o700)
        return super().run(*args, **as_user(self.uid), **kw)
