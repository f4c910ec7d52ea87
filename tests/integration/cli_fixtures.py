"""Helpers of test_cli.py: what a person does wrong, and what must not happen then."""
import json
import os
import pathlib
import pty
import select
import subprocess
import time

from conftest import BIN, is_mounted


def fails(client, code, *args, **kw):
    """Runs a verb that must fail with `code` and one clear sentence; returns the sentence."""
    r = client.run(*args, check=False, **kw)
    assert r.returncode == code, f"exit {r.returncode}, wanted {code}: {r.stdout}{r.stderr}"
    lines = [line for line in r.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, f"not one sentence: {r.stderr!r}"
    assert lines[0].startswith("cachet: "), lines[0]
    sentence = lines[0][len("cachet: "):]
    assert len(sentence) > 12 and "%" not in sentence and "(null)" not in sentence, sentence
    assert not sentence.endswith("."), sentence
    return sentence


def config_file(client, name="default"):
    return client.home / "config" / "cachet" / f"{name}.json"


def key_file(client, name="default"):
    return client.home / "config" / "cachet" / f"{name}.key"


def edit_config(client, **members):
    path = config_file(client)
    o = json.loads(path.read_text())
    o.update(members)
    path.write_text(json.dumps(o))


def flip(path, offset, length=1):
    """Changes bytes in place, as a bad disk or a hand does."""
    with open(path, "r+b") as f:
        f.seek(offset)
        old = f.read(length)
        f.seek(offset)
        f.write(bytes(b ^ 0xA5 for b in old))


class Snapshot:
    """What lies in a directory, to show later that nothing was lost or changed."""

    def __init__(self, root, ignore=("daemon.log", "lock")):
        self.files = {p.relative_to(root): p.read_bytes() for p in pathlib.Path(root).rglob("*")
                      if p.is_file() and p.name not in ignore}

    def __eq__(self, other):
        return self.files == other.files


def no_daemon(client):
    """No process of this client is left and nothing is mounted."""
    return not is_mounted(client.mnt) and not list((client.home / "run").rglob("*.sock"))


def on_terminal(argv, env, answers, timeout=30):
    """Runs a program on a terminal of its own; types each answer after its prompt. (exit code, what was shown)"""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, env)
    shown, waiting, end = b"", list(answers), time.monotonic() + timeout
    while time.monotonic() < end:
        ready, _, _ = select.select([fd], [], [], 0.2)
        if ready:
            try:
                data = os.read(fd, 4096)
            except OSError:
                break
            if not data:
                break
            shown += data
        if waiting and waiting[0][0].encode() in shown:
            prompt, answer = waiting.pop(0)
            time.sleep(0.2)
            os.write(fd, answer.encode() + b"\n")
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), shown.decode(errors="replace")


def run_bare(*args, env=None, **kw):
    """The program without a client's volume."""
    return subprocess.run([str(BIN), *args], capture_output=True, text=True, timeout=60, env=env,
                          stdin=subprocess.DEVNULL, **kw)
