"""A short slice of scripts/model: random histories with faults, and the proof that planted bugs would be seen."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_sync import tool  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def model(*args):
    env = dict(os.environ, CACHET_TOOLS=os.path.dirname(tool("sync_shell")))
    env.pop("CACHET_SERVE_BIN", None)
    return subprocess.run([sys.executable, str(ROOT / "scripts" / "model"), "--jobs", "2", *args], env=env, capture_output=True,
                          text=True, timeout=500)


def test_histories_with_faults_end_as_they_should():
    r = model("--histories", "12", "--seed", "1")
    assert r.returncode == 0, r.stdout + r.stderr


def test_a_dropped_precondition_is_found():
    r = model("--histories", "100", "--seed", "1", "--plant", "if-match")
    assert r.returncode == 0, r.stdout + r.stderr


def test_a_forgotten_idempotency_key_is_found():
    r = model("--histories", "100", "--seed", "1", "--plant", "key-seen")
    assert r.returncode == 0, r.stdout + r.stderr
