"""The passphrase as key source: read once from a descriptor, right or refused; changed without losing the volume."""
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from conftest import BIN, Client, is_mounted

FAILPOINTS_BIN = os.environ.get("CACHET_FAILPOINTS_BIN")
OLD, NEW = b"correct horse\n", b"battery staple\n"


def with_passphrase(client_env, phrase, *args, binary=BIN, **env):
    """Runs a verb with the passphrase in a pipe on descriptor 3."""
    read, write = os.pipe()
    os.write(write, phrase)
    os.close(write)
    try:
        return subprocess.run(["bash", "-c", f'exec "$0" "$@" 3<&{read}', str(binary), *args], env={**client_env, **env},
                              pass_fds=(read,), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                              check=False)
    finally:
        os.close(read)


@pytest.fixture(params=["", "server:"])
def protected(request, home, server):
    """A volume behind OLD, by itself and on top of a key of the server."""
    c = Client.__new__(Client)
    c.home, c.mnt, c.binary = home, home / "mnt", BIN
    for d in ("config", "state", "run", "mnt"):
        (home / d).mkdir(mode=0o700)
    c.env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
             "XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(home / "run")}
    (home / "token").write_text(server.token)
    (home / "token").chmod(0o600)
    r = with_passphrase(c.env, OLD, "init", "--store", "notes", "--key", f"{request.param}passphrase:fd=3",
                        "--token-file", str(home / "token"), server.url)
    assert r.returncode == 0, r.stderr
    yield c
    c.close()


def opens(c, phrase):
    """Whether this passphrase shows the index; a volume that opens with none fails elsewhere."""
    return with_passphrase(c.env, phrase, "keys").returncode == 0


def test_a_passphrase_from_a_pipe_makes_and_opens_the_volume_and_a_wrong_one_does_not(home, server, protected):
    c = protected
    assert not list((home / "config").rglob("*.key")), "a passphrase is kept nowhere"
    r = with_passphrase(c.env, b"wrong horse\n", "mount", str(c.mnt))
    assert r.returncode == 6 and not is_mounted(c.mnt), r.stderr
    r = with_passphrase(c.env, OLD, "mount", str(c.mnt))
    assert r.returncode == 0, r.stderr
    (c.mnt / "x").write_bytes(b"x")
    c.sync()
    assert server.read("notes", "x") == b"x"


def test_a_changed_passphrase_opens_what_is_there_and_the_old_one_does_not(server, protected):
    c = protected
    assert with_passphrase(c.env, OLD, "mount", "--offline", str(c.mnt)).returncode == 0
    (c.mnt / "unsent").write_bytes(b"before the change")
    refused = with_passphrase(c.env, OLD + NEW, "passphrase")
    assert refused.returncode == 8, refused.stderr
    c.umount()
    blobs = {p: p.read_bytes() for p in c.volume.rglob("blobs/*/*")}
    r = with_passphrase(c.env, OLD + NEW, "passphrase")
    assert r.returncode == 0, r.stderr
    assert blobs == {p: p.read_bytes() for p in c.volume.rglob("blobs/*/*")}, "content was sealed anew"
    assert with_passphrase(c.env, OLD, "mount", str(c.mnt)).returncode == 6
    server.stop()  # the lease, if there is one, went over to the new one
    assert with_passphrase(c.env, NEW, "mount", "--offline", str(c.mnt)).returncode == 0
    assert (c.mnt / "unsent").read_bytes() == b"before the change"
    server.start()
    c.run("online")
    c.sync()
    assert server.read("notes", "unsent") == b"before the change"


def test_what_is_not_both_passphrases_changes_nothing(protected):
    keyring = protected.volume / "keyring.json"
    before = keyring.read_bytes()
    for phrases in (b"wrong\n" + NEW, OLD, b""):  # wrong, no new one, none
        r = with_passphrase(protected.env, phrases, "passphrase")
        assert r.returncode and len(r.stderr.splitlines()) == 1, r.stderr
        assert keyring.read_bytes() == before


def test_a_volume_with_another_key_source_says_so(make_client):
    r = make_client().run("passphrase", check=False)
    assert r.returncode == 2 and "does not come from a passphrase" in r.stderr


@pytest.mark.skipif(not FAILPOINTS_BIN, reason="needs CACHET_FAILPOINTS_BIN, a build with -Dfailpoints=true")
def test_killed_at_every_step_of_a_change_one_of_both_opens_the_volume(home, protected):
    volume, saved = protected.volume, home / "saved"
    shutil.copytree(volume, saved)
    seen = set()
    for n in range(1, 100):
        shutil.rmtree(volume)
        shutil.copytree(saved, volume)
        r = with_passphrase(protected.env, OLD + NEW, "passphrase", binary=pathlib.Path(FAILPOINTS_BIN),
                            CACHET_FAILPOINTS=f"*={n}:kill")
        if r.returncode == 0:
            break
        assert r.returncode == -signal.SIGKILL, r.stderr
        old, new = opens(protected, OLD), opens(protected, NEW)
        assert old != new, f"killed at step {n}: old {old}, new {new}"
        seen.add(new)
    assert seen == {False, True}, "the kills did not fall on both sides of the rename"
