"""Golden volumes: small volumes as one version of the program left them, kept in tests/volumes.

    VERSION.tar.xz    STATE/config, STATE/state: homes of a client; their path stands as @HOME@ in the configuration
    VERSION.json      {STATE: what was in the mount, the journal, the conflicts and the pins}

The states are of one history, so that what did not change is in the archive once:

    closed    two conflicts, pins of a directory and of a pattern, unsent work of every kind; unmounted in order
    killed    later work, some of it synced, the rest only closed; then SIGKILL of the daemon

tests/volumes/make makes them; test_volumes.py opens copies with the binary under test. A volume is not made anew
because a test fails on it: that is what it is for. A new format gets new volumes beside the old ones.
"""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import tarfile

from conftest import BIN, ROOT, Client, kill_and_wait, unmount, wait_for

VOLUMES = ROOT / "tests" / "volumes"
HOME = "@HOME@"


class Golden(Client):
    """A client whose home comes out of an archive; it has no server, and is mounted offline."""

    def __init__(self, home, version, state, binary=BIN):  # pylint: disable=super-init-not-called
        self.home = home / state
        self.binary = binary
        self.mnt = self.home / "mnt"
        self.mnt.mkdir(parents=True)
        (self.home / "run").mkdir(mode=0o700)
        with tarfile.open(VOLUMES / f"{version}.tar.xz") as archive:
            archive.extractall(home, [m for m in archive if m.name.split("/")[0] == state])
        config = self.config(self.home)
        config.write_text(config.read_text().replace(HOME, str(self.home)))
        self.env = {**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"),
                    "XDG_STATE_HOME": str(self.home / "state"), "XDG_RUNTIME_DIR": str(self.home / "run")}

    @staticmethod
    def config(home):
        return home / "config" / "cachet" / "default.json"


def names(root):
    """What is at and below a directory, as it can be seen in a mount."""
    found = {}
    for path in sorted(pathlib.Path(root).rglob("*")):
        st = path.lstat()
        entry = {"mode": stat.filemode(st.st_mode)}
        if path.is_symlink():
            entry["target"] = os.readlink(path)
        elif path.is_file():
            body = path.read_bytes()
            entry.update(size=st.st_size, sha256=hashlib.sha256(body).hexdigest(), nlink=st.st_nlink,
                         mtime_ns=st.st_mtime_ns)
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False).decode()
                  for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("user.cachet.")}
        if xattrs:
            entry["xattrs"] = xattrs
        found[str(path.relative_to(root))] = entry
    return found


def contents(client):
    """All that a golden volume promises to tell, of a mounted one."""
    def verb(*args):
        return json.loads(client.run(*args, "--json").stdout)

    return {
        "files": names(client.mnt),
        "journal": [{k: o.get(k) for k in ("state", "kind", "path")} for o in verb("journal", "ls")["operations"]],
        "conflicts": [{k: c.get(k) for k in ("kind", "local_path", "origin_path", "has_base")} for c in verb("conflicts", "ls")["conflicts"]],
        "pins": sorted(p["pattern"] for p in verb("pin", "--list")["pins"]),
    }


def keep(client, state, to):
    """The home as it is now. The client is not mounted."""
    home = to / state
    for part in ("config", "state"):
        shutil.copytree(client.home / part, home / part)
    config = Golden.config(home)
    config.write_text(config.read_text().replace(str(client.home), HOME))
    for log in home.rglob("daemon.log"):
        log.unlink()


def _pattern(n, seed):
    return hashlib.shake_128(str(seed).encode()).digest(n)


def _write(path, body, sync=False):
    with open(path, "wb") as f:
        f.write(body)
        if sync:
            f.flush()
            os.fsync(f.fileno())


def _at_the_origin(client):
    root = client.mnt
    (root / "letters").mkdir()
    _write(root / "empty", b"")
    _write(root / "page", _pattern(4096, 1))
    _write(root / "gone", b"")
    _write(root / "doc.txt", b"base")
    _write(root / "field.json", b'{"x": 1}')
    _write(root / "letters" / "a.txt", b"Dear A,\n")
    _write(root / "letters" / "b.txt", b"Dear B,\n")
    _write(root / "letters" / ("ü" * 125 + ".text"), b"a long name\n")
    (root / "letters" / "link").symlink_to("../page")
    os.utime(root / "page", ns=(1_500_000_000_000_000_000, 1_500_000_000_123_456_789))
    client.sync()


def _conflicts(client, server):
    root = client.mnt
    client.run("offline")
    server.write("notes", "doc.txt", b"theirs")
    server.write("notes", "field.json", b'{"x": 2}')
    _write(root / "doc.txt", b"ours")
    _write(root / "field.json", b'{"x": 3}')
    client.run("online")
    wait_for(lambda: len(json.loads(client.run("conflicts", "ls", "--json").stdout)["conflicts"]) == 2)
    client.sync()
    client.run("warm", str(root))


def _unsent(client):
    root = client.mnt
    _write(root / "letters" / "a.txt", b"Dear A, again\n")
    (root / "letters" / "b.txt").rename(root / "letters" / "c.txt")
    (root / "gone").unlink()
    (root / "new").mkdir(mode=0o750)
    _write(root / "new" / "one", b"1", sync=True)
    os.link(root / "new" / "one", root / "new" / "two")
    (root / "page").chmod(0o640)
    os.setxattr(root / "new" / "one", "user.note", b"mine")
    with open(root / "holes", "wb") as f:
        f.write(b"begin")
        f.truncate(131_080)
        f.seek(131_077)
        f.write(b"end")


def _more(client):
    root = client.mnt
    _write(root / "synced", _pattern(3_000, 3), sync=True)
    _write(root / "synced", _pattern(2_000, 4))
    _write(root / "page", _pattern(1_000, 5))
    _write(root / "letters" / ".tmp", b"Dear C, better\n")
    (root / "letters" / ".tmp").rename(root / "letters" / "c.txt")
    (root / "new" / "two").unlink()


def make(home, server, to):
    """The states, in `to`, and what is in each."""
    client = Client(home, server)
    path = Golden.config(client.home)
    config = json.loads(path.read_text())
    config["conflicts"] = [{"match": "*.json", "policy": "merge"}]
    path.write_text(json.dumps(config))
    told = {}
    try:
        client.mount()
        _at_the_origin(client)
        client.run("pin", str(client.mnt / "letters"), str(client.mnt / "*.txt"))
        _conflicts(client, server)
        client.run("offline")
        server.stop()
        _unsent(client)
        told["closed"] = contents(client)
        client.umount()
        keep(client, "closed", to)
        client.mount("--offline")
        _more(client)
        told["killed"] = contents(client)
        kill_and_wait(client.pid(), signal.SIGKILL)
        unmount(client.mnt)
        keep(client, "killed", to)
    finally:
        client.close()
    return told
