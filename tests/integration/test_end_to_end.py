"""The main job: records as files, offline edits, replay, remote changes. Each test is one behaviour."""
import os
import signal

import pytest

from conftest import digest, wait_for


def fill(server, n=20):
    for i in range(n):
        server.write("notes", f"record-{i:03}.json", b'{"n": %d}' % i)


def test_records_of_the_server_are_files(server, make_client):
    fill(server)
    c = make_client().mount()
    assert sorted(os.listdir(c.mnt)) == [f"record-{i:03}.json" for i in range(20)]
    assert (c.mnt / "record-007.json").read_bytes() == b'{"n": 7}'


def test_a_local_write_reaches_the_server(server, client):
    (client.mnt / "dir").mkdir()
    (client.mnt / "dir" / "a.txt").write_bytes(b"hello")
    client.sync()
    assert server.read("notes", "dir/a.txt") == b"hello"


def test_cached_content_is_read_without_the_server(server, make_client):
    fill(server)
    c = make_client().mount()
    want = (c.mnt / "record-003.json").read_bytes()
    server.stop()
    assert (c.mnt / "record-003.json").read_bytes() == want


def test_content_never_fetched_fails_at_once_when_known_offline(server, make_client):
    fill(server)
    c = make_client().mount()
    os.listdir(c.mnt)
    server.stop()
    wait_for(lambda: c.status()["state"] == "offline")
    with pytest.raises(OSError) as e:
        (c.mnt / "record-004.json").read_bytes()
    assert e.value.errno == 113


def test_listing_and_stat_never_need_the_network(server, make_client):
    fill(server)
    c = make_client().mount()
    c.sync()
    server.stop()
    assert len(os.listdir(c.mnt)) == 20
    assert (c.mnt / "record-019.json").stat().st_size == 9


def test_offline_edits_are_replayed(server, make_client):
    fill(server)
    c = make_client().mount()
    (c.mnt / "record-001.json").read_bytes()
    server.stop()
    wait_for(lambda: c.status()["state"] == "offline")
    (c.mnt / "record-001.json").write_bytes(b'{"n": "edited"}')
    (c.mnt / "new.txt").write_bytes(b"made offline")
    os.rename(c.mnt / "record-002.json", c.mnt / "renamed.json")
    os.unlink(c.mnt / "record-005.json")
    assert c.status()["pending"] >= 4
    server.start()
    c.sync()
    assert c.status()["pending"] == 0
    have = server.records("notes")
    assert server.read("notes", "record-001.json") == b'{"n": "edited"}'
    assert server.read("notes", "new.txt") == b"made offline"
    assert server.read("notes", "renamed.json") == b'{"n": 2}'
    assert "record-002.json" not in have and "record-005.json" not in have


def test_unsent_work_survives_sigkill_and_a_mount_while_offline(server, make_client):
    fill(server)
    c = make_client().mount()
    c.sync()
    server.stop()
    (c.mnt / "note.txt").write_bytes(b"only here")
    c.sigkill()
    c.mount("--offline")
    assert (c.mnt / "note.txt").read_bytes() == b"only here"
    server.start()
    c.run("online")
    c.sync()
    assert server.read("notes", "note.txt") == b"only here"


def test_cold_start_without_a_network(server, make_client):
    fill(server)
    c = make_client().mount()
    want = (c.mnt / "record-010.json").read_bytes()
    c.umount()
    server.stop()
    c.mount()
    assert len(os.listdir(c.mnt)) == 20
    assert (c.mnt / "record-010.json").read_bytes() == want


def test_a_remote_change_is_seen(server, make_client):
    fill(server)
    c = make_client().mount()
    assert (c.mnt / "record-000.json").read_bytes() == b'{"n": 0}'
    server.write("notes", "record-000.json", b'{"n": "changed elsewhere"}')
    wait_for(lambda: (c.mnt / "record-000.json").read_bytes() == b'{"n": "changed elsewhere"}', 10)


def test_a_remote_file_appears_and_disappears(server, client):
    os.listdir(client.mnt)
    server.write("notes", "there.txt", b"x")
    wait_for(lambda: (client.mnt / "there.txt").exists(), 10)
    server.delete("notes", "there.txt")
    wait_for(lambda: not (client.mnt / "there.txt").exists(), 10)


def test_an_open_file_keeps_its_version(server, make_client):
    server.write("notes", "v.txt", b"old" * 100000)
    c = make_client().mount()
    with open(c.mnt / "v.txt", "rb") as f:
        assert f.read() == b"old" * 100000
        server.write("notes", "v.txt", b"new")
        wait_for(lambda: (c.mnt / "v.txt").read_bytes() == b"new", 10)
        f.seek(0)
        assert f.read(9) == b"oldoldold"
    assert (c.mnt / "v.txt").read_bytes() == b"new"


def test_edit_against_edit_keeps_both(server, make_client):
    server.write("notes", "cv.txt", b"base")
    c = make_client().mount()
    assert (c.mnt / "cv.txt").read_bytes() == b"base"
    c.run("offline")
    (c.mnt / "cv.txt").write_bytes(b"mine")
    server.write("notes", "cv.txt", b"theirs")
    c.run("online")
    wait_for(lambda: c.status()["conflicts"] == 1)
    c.sync()
    assert (c.mnt / "cv.txt").read_bytes() == b"theirs"
    copy = [n for n in os.listdir(c.mnt) if n.startswith("cv (conflict ")]
    assert len(copy) == 1 and (c.mnt / copy[0]).read_bytes() == b"mine"
    assert server.read("notes", copy[0]) == b"mine" and server.read("notes", "cv.txt") == b"theirs"


def test_edit_against_delete_keeps_the_edit(server, make_client):
    server.write("notes", "cv.txt", b"base")
    c = make_client().mount()
    (c.mnt / "cv.txt").read_bytes()
    c.run("offline")
    (c.mnt / "cv.txt").write_bytes(b"mine")
    server.delete("notes", "cv.txt")
    c.run("online")
    c.sync()
    assert (c.mnt / "cv.txt").read_bytes() == b"mine"
    assert server.read("notes", "cv.txt") == b"mine"


def test_delete_against_edit_keeps_the_edit(server, make_client):
    server.write("notes", "cv.txt", b"base")
    c = make_client().mount()
    (c.mnt / "cv.txt").read_bytes()
    c.run("offline")
    os.unlink(c.mnt / "cv.txt")
    server.write("notes", "cv.txt", b"theirs")
    c.run("online")
    c.sync()
    wait_for(lambda: (c.mnt / "cv.txt").exists() and (c.mnt / "cv.txt").read_bytes() == b"theirs", 10)
    assert server.read("notes", "cv.txt") == b"theirs"


def test_forced_offline_sends_nothing_until_online(server, client):
    client.run("offline")
    (client.mnt / "x.txt").write_bytes(b"x")
    assert client.status()["state"] == "forced-offline"
    assert "x.txt" not in server.records("notes")
    client.run("online")
    client.sync()
    assert server.read("notes", "x.txt") == b"x"


def test_a_large_file_goes_up_and_comes_down(server, make_client):
    a, b = make_client("a").mount(), make_client("b").mount()
    data = os.urandom(1 << 20) * 40 + b"tail"
    (a.mnt / "big.bin").write_bytes(data)
    a.sync()
    wait_for(lambda: (b.mnt / "big.bin").exists(), 10)
    assert digest(b.mnt / "big.bin") == digest(a.mnt / "big.bin")


def test_a_small_read_of_a_large_file_moves_little(server, make_client):
    content = os.urandom(1 << 20) * 64
    server.write("notes", "big.bin", content)
    c = make_client().mount()
    c.sync()

    def fetched():
        """When nothing is on its way any more."""
        values = []

        def rests():
            values.append(c.status()["fetched_bytes"])
            return len(values) > 6 and len(set(values[-6:])) == 1
        wait_for(rests, 20)
        return values[-1]

    def moved(at, n):
        before = fetched()
        assert os.pread(f.fileno(), n, at) == content[at:at + n]
        return fetched() - before
    with open(c.mnt / "big.bin", "rb", buffering=0) as f:
        # What the kernel reads ahead is its own affair: 128 KiB on these machines.
        assert moved(32_000_000, 1_000_000) <= 1_600_000
        for at in (60_000_000, 10_000_000, 45_000_000):
            assert moved(at, 4096) <= 256 << 10
        assert moved(32_000_000, 500_000) == 0


def test_a_reader_who_waits_for_nothing_is_read_ahead_for(server, make_client):
    mib = 1 << 20
    server.write("notes", "big.bin", os.urandom(mib) * 64)
    c = make_client().mount()
    c.sync()
    for again in False, True:
        before = c.status()["fetched_bytes"]
        with open(c.mnt / "big.bin", "rb", buffering=0) as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for at in range(1, 49):
                assert len(f.read(mib)) == mib
                if at > 4:
                    wait_for(lambda at=at: c.status()["fetched_bytes"] - before > at * mib + mib // 2, 10)
            assert c.status()["fetched_bytes"] - before <= (48 + 16) * mib
        if not again:
            wait_for(lambda: "1 file dropped" in c.run("free", str(c.mnt / "big.bin")).stdout, 20)


def test_two_devices_converge(server, make_client):
    a, b = make_client("a").mount(), make_client("b").mount()
    for i in range(10):
        (a.mnt / f"a{i}.txt").write_text(f"from a {i}")
        (b.mnt / f"b{i}.txt").write_text(f"from b {i}")
    a.sync()
    b.sync()
    want = sorted([f"a{i}.txt" for i in range(10)] + [f"b{i}.txt" for i in range(10)])
    for c in (a, b):
        wait_for(lambda: sorted(os.listdir(c.mnt)) == want, 10)
    assert (b.mnt / "a3.txt").read_text() == "from a 3"
    assert (a.mnt / "b3.txt").read_text() == "from b 3"


def test_the_server_killed_while_replaying_applies_each_change_once(server, make_client):
    c = make_client().mount()
    for round_ in range(5):
        c.run("offline")
        for i in range(40):
            (c.mnt / f"f{round_}-{i}.txt").write_text(f"{round_} {i}")
        c.run("online")
        server.stop(signal.SIGKILL)
        server.start()
    c.sync()
    have = server.records("notes")
    assert sorted(have) == sorted(f"f{r}-{i}.txt" for r in range(5) for i in range(40))
    assert c.status()["conflicts"] == 0


def test_sigterm_ends_the_daemon_soon_and_nothing_is_lost(server, client):
    import time
    (client.mnt / "x.bin").write_bytes(os.urandom(5 << 20))
    want = digest(client.mnt / "x.bin")
    from conftest import kill_and_wait
    start = time.monotonic()
    kill_and_wait(client.pid(), signal.SIGTERM)
    assert time.monotonic() - start < 10
    client.mount()
    assert digest(client.mnt / "x.bin") == want


def test_stat_asks_the_origin_with_a_conditional_get(server, make_client):
    import json
    server.write("notes", "a.txt", b"one")
    c = make_client().mount()
    wait_for(lambda: (c.mnt / "a.txt").read_bytes() == b"one", 10)  # here, so that its old version can be read to the end

    def origin_says(name):
        return json.loads(c.run("stat", "--check", "--json", str(c.mnt / name)).stdout)["origin"]
    assert origin_says("a.txt") == "current"
    c.run("offline")
    (c.mnt / "new.txt").write_bytes(b"never sent")
    assert c.run("stat", "--check", str(c.mnt / "a.txt"), check=False).returncode == 4
    c.run("online")
    c.sync()
    assert origin_says("new.txt") == "current"
    server.write("notes", "a.txt", b"another")
    wait_for(lambda: (c.mnt / "a.txt").stat().st_size == len("another"), 30)  # a read may meet ESTALE until then
    assert (c.mnt / "a.txt").read_bytes() == b"another"
    assert origin_says("a.txt") == "current"
