"""Import: plain files go into the volume, and their originals only when the origin has them. Killed anywhere nothing is lost."""
import json
import os
import random
import signal
import subprocess
import time

import pytest

from cli_fixtures import fails
from conftest import wait_for

SEED = int(os.environ.get("CACHET_SEED", str(int(time.time()))))
ROUNDS = int(os.environ.get("CACHET_ROUNDS", "3"))


@pytest.fixture
def plain(home):
    """A directory of plain files; {path: content}."""
    root = home / "plain"
    (root / "a" / "b").mkdir(parents=True)
    files = {f"a/f{i}": os.urandom(random.Random(i).randrange(1, 150_000)) for i in range(30)}
    files.update({"top": b"top", "a/b/deep": b"deep", "empty": b""})
    for name, content in files.items():
        (root / name).write_bytes(content)
    (root / "top").chmod(0o640)
    os.utime(root / "top", ns=(0, 1_600_000_000_123_456_789))
    (root / "link").symlink_to("top")
    return root, files


def test_files_move_and_their_originals_go(client, server, plain):
    root, files = plain
    r = json.loads(client.run("import", str(root), str(client.mnt), "--json").stdout)
    assert r["ok"] and r["files"] == len(files) + 1 == r["removed"] and r["left"] == 0
    assert not root.exists()
    for name, content in files.items():
        assert (client.mnt / "plain" / name).read_bytes() == content
        assert server.read("notes", f"plain/{name}") == content
    st = (client.mnt / "plain" / "top").stat()
    assert st.st_mode & 0o777 == 0o640 and st.st_mtime_ns == 1_600_000_000_123_456_789
    assert os.readlink(client.mnt / "plain" / "link") == "top"
    assert not list(client.mnt.rglob(".cachet-import"))


def test_keep_leaves_the_originals(client, plain):
    root, files = plain
    client.run("import", "--keep", str(root), str(client.mnt))
    assert all((root / n).read_bytes() == c == (client.mnt / "plain" / n).read_bytes() for n, c in files.items())


def test_without_the_origin_nothing_is_removed_and_the_same_command_goes_on(client, server, plain):
    root, files = plain
    server.stop()
    client.run("offline")
    fails(client, 4, "import", str(root), str(client.mnt))
    assert all((root / n).read_bytes() == c for n, c in files.items())
    server.start()
    client.run("online")
    client.run("import", str(root), str(client.mnt))
    assert not root.exists()
    assert all(server.read("notes", f"plain/{n}") == c for n, c in files.items())


def test_another_content_in_the_place_is_left_alone_like_its_original(client, server, plain):
    root, files = plain
    (client.mnt / "plain").mkdir()
    (client.mnt / "plain" / "top").write_bytes(b"mine")
    assert "1 were left" in fails_after(client, 9, root)
    assert (client.mnt / "plain" / "top").read_bytes() == b"mine"
    assert (root / "top").read_bytes() == files["top"]
    assert [p for p in root.rglob("*") if p.is_file()] == [root / "top"]


def fails_after(client, code, root):
    r = client.run("import", str(root), str(client.mnt), check=False)
    assert r.returncode == code, r.stderr
    return r.stderr


def test_sockets_and_fifos_stay(client, plain):
    root, _ = plain
    os.mkfifo(root / "a" / "fifo")
    fails_after(client, 9, root)
    assert [p.name for p in root.rglob("*") if not p.is_dir()] == ["fifo"]


def test_what_the_origin_refuses_keeps_its_original(client, server, home):
    """A name that is not UTF-8 never leaves this device."""
    root = home / "plain"
    root.mkdir()
    name = os.fsencode(root) + b"/caf\xe9"
    with open(name, "wb") as f:
        f.write(b"au lait")
    fails_after(client, 9, root)
    with open(name, "rb") as f:
        assert f.read() == b"au lait"


def test_more_than_the_volume_holds_goes_through_in_turns(make_client, server, home):
    client = make_client(cache_size="40MB").mount()
    root = home / "plain"
    root.mkdir()
    for i in range(6):
        (root / str(i)).write_bytes(os.urandom(8 << 20))
    client.run("import", str(root), str(client.mnt))
    assert not root.exists()
    assert sorted(server.records("notes")) == sorted(["plain", *(f"plain/{i}" for i in range(6))])


def test_a_place_in_the_volume_or_nowhere_is_refused(client, home):
    (client.mnt / "d").mkdir()
    assert "already" in fails(client, 2, "import", str(client.mnt / "d"), str(client.mnt))
    fails(client, 2, "import", str(home), "/tmp")
    fails(client, 1, "import", str(home / "nope"), str(client.mnt))


@pytest.mark.parametrize("victim", ["import", "daemon"])
def test_killed_anywhere_nothing_is_lost(client, server, plain, victim):
    root, files = plain
    rng = random.Random(SEED)
    for _ in range(ROUNDS):
        p = subprocess.Popen([str(client.binary), "import", str(root), str(client.mnt)], env=client.env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.6))
        if victim == "import":
            p.send_signal(signal.SIGKILL)
        else:
            client.sigkill()
        p.wait(60)
        if victim == "daemon":
            client.mount()
        for name, content in files.items():
            places = [q for q in (root / name, client.mnt / "plain" / name) if q.exists()]
            assert places, f"{name} is gone, seed {SEED}"
            assert all(q.read_bytes() == content for q in places), f"{name}, seed {SEED}"
    if root.exists():
        client.run("import", str(root), str(client.mnt))
    assert not root.exists()
    assert all(server.read("notes", f"plain/{n}") == c for n, c in files.items())
    wait_for(lambda: not list(client.mnt.rglob(".cachet-import")))
