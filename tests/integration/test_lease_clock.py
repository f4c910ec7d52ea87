"""A clock that is set back takes nothing away from the time a lease has run."""
import pathlib

import pytest

from conftest import Client, wait_for

LIBRARY = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
pytestmark = pytest.mark.skipif(not LIBRARY, reason="libfaketime is not there")
TTL_S = 72 * 3600  # what the server gives


def test_a_clock_set_back_does_not_lengthen_a_lease(home, server):
    c = Client(home, server, key="server")
    real = c.binary
    late = home / "late"
    late.write_text(f'#!/bin/sh\nexport LD_PRELOAD={LIBRARY} FAKETIME="+{TTL_S - 12}s" FAKETIME_DONT_FAKE_MONOTONIC=1\n'
                    f'exec {real} "$@"\n')
    late.chmod(0o700)
    try:
        server.stop()
        c.binary = late  # a moment before the end, with the mark of the clock in the index
        c.mount("--offline")
        c.umount()
        c.binary = real  # the clock is set back by three days: the lease has seconds left all the same
        r = c.run("mount", "--offline", str(c.mnt), check=False)
        if r.returncode == 0:
            wait_for(lambda: c.status().get("locked"))
            r = c.run("unlock", str(c.mnt), check=False)
        assert r.returncode and "lease is over" in r.stderr, r.stderr
    finally:
        c.binary = real
        c.close()
