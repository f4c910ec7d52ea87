"""The passphrase as key source: read once from a descriptor, right or refused."""
import os
import subprocess

from conftest import BIN, Client, is_mounted


def with_passphrase(client_env, phrase, *args):
    """Runs a verb with the passphrase in a pipe on descriptor 3."""
    read, write = os.pipe()
    os.write(write, phrase)
    os.close(write)
    try:
        return subprocess.run(["bash", "-c", f'exec "$0" "$@" 3<&{read}', str(BIN), *args], env=client_env, pass_fds=(read,),
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    finally:
        os.close(read)


def test_a_passphrase_from_a_pipe_makes_and_opens_the_volume_and_a_wrong_one_does_not(home, server):
    c = Client.__new__(Client)
    c.home, c.mnt, c.binary = home, home / "mnt", BIN
    for d in ("config", "state", "run", "mnt"):
        (home / d).mkdir(mode=0o700)
    c.env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"),
             "XDG_STATE_HOME": str(home / "state"), "XDG_RUNTIME_DIR": str(home / "run")}
    (home / "token").write_text(server.token)
    (home / "token").chmod(0o600)
    try:
        r = with_passphrase(c.env, b"correct horse\n", "init", "--store", "notes", "--key", "passphrase:fd=3",
                            "--token-file", str(home / "token"), server.url)
        assert r.returncode == 0, r.stderr
        assert not list((home / "config").rglob("*.key")), "a passphrase is kept nowhere"
        r = with_passphrase(c.env, b"wrong horse\n", "mount", str(c.mnt))
        assert r.returncode == 6 and not is_mounted(c.mnt), r.stderr
        r = with_passphrase(c.env, b"correct horse\n", "mount", str(c.mnt))
        assert r.returncode == 0, r.stderr
        (c.mnt / "x").write_bytes(b"x")
        c.sync()
        assert server.read("notes", "x") == b"x"
    finally:
        c.close()
