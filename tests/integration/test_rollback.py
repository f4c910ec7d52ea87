"""A whole old volume put back is found at the next contact: read-only until it is accepted. Real server."""
import errno
import shutil

import pytest

from conftest import wait_for


def put_back(client, copy):
    volume = client.volume
    shutil.rmtree(volume)
    shutil.copytree(copy, volume)


def refused(call):
    with pytest.raises(OSError) as e:
        call()
    assert e.value.errno == errno.EROFS


def test_an_old_volume_is_read_only_until_accepted(server, client, home):
    root = client.mnt
    (root / "old").write_bytes(b"1")
    client.sync()
    client.run("offline")
    (root / "unsent then").write_bytes(b"sent since")
    client.umount()
    shutil.copytree(client.volume, home / "copy")
    client.mount()
    (root / "old").write_bytes(b"2")
    (root / "later").write_bytes(b"3")
    client.sync()
    client.umount()
    put_back(client, home / "copy")
    client.mount()
    wait_for(lambda: client.status()["rolled_back_volume"])
    refused(lambda: (root / "new").write_bytes(b"x"))
    refused(lambda: (root / "old").write_bytes(b"x"))
    refused(lambda: (root / "old").unlink())
    refused(lambda: (root / "old").chmod(0o600))
    refused(lambda: (root / "old").rename(root / "other"))
    refused(lambda: (root / "dir").mkdir())
    assert "accept-old" in client.run("status").stdout
    assert client.run("status", "--check", check=False).returncode == 7
    client.umount()
    client.mount("--offline")
    refused(lambda: (root / "new").write_bytes(b"x"))
    client.umount()
    client.mount()
    client.run("sync", "--accept-old")
    wait_for(lambda: not client.status()["rolled_back_volume"])
    (root / "new").write_bytes(b"4")
    client.sync()
    assert sorted(server.records("notes")) == ["later", "new", "old", "unsent then"]
    assert server.read("notes", "old") == b"2"
    assert server.read("notes", "unsent then") == b"sent since"
    assert client.status()["conflicts"] == 0
    kinds = [e["kind"] for e in client_events(client)]
    assert kinds.count("rollback") == 2


def client_events(client):
    import json
    return json.loads(client.run("events", "--json").stdout)["events"]
