"""Golden volumes of every version (golden.py): today's program opens each, and all is in it that was."""
import json

import pytest

from conftest import Server, digest
from golden import VOLUMES, Golden, contents, make

CASES = [(told.stem, state) for told in sorted(VOLUMES.glob("*.json")) for state in json.loads(told.read_text())]


def test_there_are_volumes():
    assert {state for _, state in CASES} >= {"closed", "killed"}


@pytest.mark.parametrize("version,state", CASES)
def test_a_volume_of_an_earlier_version_has_all_that_was_in_it(home, version, state):
    """Twice: what opening it changed, recovery and a new format included, is as good as what was there."""
    want = json.loads((VOLUMES / f"{version}.json").read_text())[state]
    client = Golden(home, version, state)
    try:
        for _ in range(2):
            client.mount("--offline")
            assert contents(client) == want
            report = json.loads(client.run("verify", "--json").stdout)
            assert report["chunks"] > 10 and report["damaged"] == report["healed"] == 0, report
            assert client.status()["index_lost"] is False
            client.umount()
    finally:
        client.close()


@pytest.mark.parametrize("version", sorted({version for version, _ in CASES}))
def test_unsent_work_of_an_earlier_version_can_be_read_without_its_index(home, version):
    """unsent.log is a format of its own."""
    files = json.loads((VOLUMES / f"{version}.json").read_text())["closed"]["files"]
    client = Golden(home, version, "closed")
    try:
        for path in client.volume.glob("index.*"):
            path.unlink()
        client.mount("--offline")
        for path in ("letters/a.txt", "new/one", "new/two", "holes"):  # directories are not listed yet
            assert digest(client.mnt / path) == files[path]["sha256"], path
        client.umount()
    finally:
        client.close()


def test_the_volumes_can_be_made_by_todays_program(home, tmp_path):
    """What makes them works, and a volume of today opens as those of before do."""
    server = Server(home)
    server.admin("store", "add", "notes", str(server.dir))
    try:
        told = make(home, server.start(), tmp_path)
    finally:
        server.stop()
    assert set(told) == {"closed", "killed"} and len(told["closed"]["conflicts"]) == 2
    assert (tmp_path / "killed" / "state").is_dir()
