"""Bad input at the command line: one clear sentence, the right exit code, nothing lost, nothing hung."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from cli_fixtures import (Snapshot, config_file, edit_config, fails, flip, key_file, no_daemon, on_terminal, run_bare)
from conftest import BIN, Client, digest, is_mounted, kill_and_wait, unmount, wait_for

FAILED, USAGE, NOT_MOUNTED, OFFLINE, AUTH, KEY, DAMAGED, IN_USE, PENDING, TIMEOUT = range(1, 11)


@pytest.fixture
def bare(home):
    """A home without any volume."""
    class Bare:
        def __init__(self):
            self.home = home / "bare"
            self.mnt = self.home / "mnt"
            for p in (self.home, self.mnt, self.home / "run"):
                p.mkdir(mode=0o700)
            self.env = {**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config"),
                        "XDG_STATE_HOME": str(self.home / "state"), "XDG_RUNTIME_DIR": str(self.home / "run")}

        def run(self, *args, check=True, stdin=None, **kw):
            r = subprocess.run([str(BIN), *args], env=self.env, capture_output=True, text=True, timeout=60,
                               input=stdin or "", **kw)
            assert not check or r.returncode == 0, r.stderr
            return r

        def left_behind(self):
            volumes = [p for p in (self.home / "state").rglob("*") if p != self.home / "state" / "cachet"]
            return volumes + list((self.home / "config").rglob("*.json")) \
                + list((self.home / "config").rglob("*.key"))
    return Bare()


# --- words on the command line ---------------------------------------------------------------------

def test_an_unknown_verb(bare):
    assert "frobnicate" in fails(bare, USAGE, "frobnicate")


@pytest.mark.parametrize("verb", ["mount", "status", "sync", "journal", "serve"])
def test_an_unknown_option(bare, verb):
    assert "--colour" in fails(bare, USAGE, verb, "--colour")


def test_too_many_arguments_show_the_usage(bare):
    assert "cachet status" in fails(bare, USAGE, "status", "a", "b")


def test_a_size_that_is_none(bare):
    assert "--cache-size" in fails(bare, USAGE, "init", "--cache-size", "big", "https://e.example")


def test_a_cache_too_small_to_work(bare):
    assert "--cache-size" in fails(bare, USAGE, "init", "--cache-size", "1K", "https://e.example")


def test_every_verb_has_help_with_its_usage(bare):
    verbs = json.loads(bare.run("help", "--json").stdout)["verbs"]
    assert len(verbs) > 15
    for v in verbs:
        out = bare.run(*v["name"].split(), "--help").stdout
        assert out.startswith(f"Usage: cachet {v['name']} "), out


def test_failures_are_json_when_asked(bare):
    r = bare.run("status", "--json", check=False)
    o = json.loads(r.stdout)
    assert r.returncode == USAGE and o["ok"] is False and o["code"] == "usage" and "cachet init" in o["error"]


# --- init --------------------------------------------------------------------------------------------

def test_init_without_a_token_and_without_a_terminal(bare):
    assert "--token-file" in fails(bare, USAGE, "init", "https://e.example", start_new_session=True)
    assert bare.left_behind() == []


@pytest.mark.parametrize("url", ["example.org", "ftp://e.example", "", "https//x"])
def test_init_with_something_that_is_no_url(bare, url):
    fails(bare, USAGE, "init", "--token-file", "-", url, stdin="t\n")
    assert bare.left_behind() == []


def test_init_refuses_plain_http_beyond_this_machine(bare):
    fails(bare, USAGE, "init", "--token-file", "-", "http://192.0.2.1:8080", stdin="token\n")
    assert bare.left_behind() == []


def test_init_with_an_unknown_key_source(bare):
    fails(bare, USAGE, "init", "--key", "tpm5:x", "--token-file", "-", "https://e.example", stdin="t\n")
    assert bare.left_behind() == []


def test_init_with_a_token_file_that_is_not_there(bare):
    assert "/no/such" in fails(bare, USAGE, "init", "--token-file", "/no/such", "https://e.example")
    assert bare.left_behind() == []


def test_init_with_an_empty_token(bare):
    fails(bare, USAGE, "init", "--token-file", "-", "https://e.example", stdin="\n")


def test_init_refuses_a_name_that_is_taken_and_keeps_the_volume(make_client, server):
    c = make_client().mount()
    (c.mnt / "x").write_bytes(b"x")
    c.umount()
    before, config = Snapshot(c.volume), config_file(c).read_bytes()
    token = c.home / "t"
    token.write_text(server.token)
    assert "already" in fails(c, USAGE, "init", "--token-file", str(token), server.url)
    assert Snapshot(c.volume) == before and config_file(c).read_bytes() == config


def test_init_with_a_wrong_token_leaves_nothing(bare, server):
    sentence = fails(bare, AUTH, "init", "--token-file", "-", server.url, stdin="wrong-token\n")
    assert "token" in sentence
    assert bare.left_behind() == []


def test_init_with_an_origin_that_cannot_be_reached_succeeds_and_says_so(bare):
    r = bare.run("init", "--token-file", "-", "http://127.0.0.1:9", stdin="t\n")
    assert "cannot be reached" in r.stdout


def test_init_unwinds_when_the_state_directory_cannot_be_written(bare):
    (bare.home / "state").write_text("a file where a directory should be")
    fails(bare, FAILED, "init", "--no-check", "--token-file", "-", "https://e.example", stdin="t\n")
    assert list((bare.home / "config").rglob("*.json")) == []
    assert list((bare.home / "config").rglob("*.key")) == []


def test_init_says_that_a_plain_file_is_the_weakest_source(bare):
    r = bare.run("init", "--no-check", "--token-file", "-", "https://e.example", stdin="t\n")
    assert "weakest" in r.stdout
    key = key_file(bare)
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_token_is_asked_on_a_terminal_without_echo(bare, server):
    code, shown = on_terminal([str(BIN), "init", server.url], bare.env, [("Token:", server.token)])
    assert code == 0, shown
    assert server.token not in shown


def test_a_token_is_never_taken_from_the_command_line(bare):
    assert "--token" in fails(bare, USAGE, "init", "--token", "secret", "https://e.example")


# --- the mount point -------------------------------------------------------------------------------

def test_a_mount_point_that_is_missing(make_client):
    c = make_client()
    assert "mkdir" in fails(c, USAGE, "mount", str(c.home / "nowhere"))
    assert no_daemon(c)


def test_a_mount_point_that_is_a_file(make_client):
    c = make_client()
    (c.home / "file").write_text("x")
    fails(c, USAGE, "mount", str(c.home / "file"))
    assert no_daemon(c) and (c.home / "file").read_text() == "x"


def test_a_mount_point_that_is_not_empty(make_client):
    c = make_client()
    (c.mnt / "mine.txt").write_text("keep me")
    assert "not empty" in fails(c, USAGE, "mount", str(c.mnt))
    assert (c.mnt / "mine.txt").read_text() == "keep me" and no_daemon(c)


def test_a_mount_point_that_is_mounted_already(make_client):
    a, b = make_client("a").mount(), make_client("b")
    (a.mnt / "x").write_bytes(b"a")
    assert "already" in fails(b, IN_USE, "mount", str(a.mnt))
    assert (a.mnt / "x").read_bytes() == b"a"


def test_no_mount_point_at_all(make_client):
    c = make_client()
    assert "MOUNTPOINT" in fails(c, USAGE, "mount")


def test_a_volume_that_is_not_configured(make_client):
    c = make_client()
    assert "nosuch" in fails(c, USAGE, "mount", "nosuch", str(c.mnt))


def test_a_second_daemon_on_the_same_volume(client):
    other = client.home / "other"
    other.mkdir()
    fails(client, IN_USE, "mount", str(other))
    (client.mnt / "still").write_bytes(b"here")
    assert (client.mnt / "still").read_bytes() == b"here"


def test_words_of_mount_may_come_in_either_order(make_client):
    c = make_client()
    c.run("mount", str(c.mnt), "default")
    assert is_mounted(c.mnt)
    c.umount()
    c.run("mount", "default", str(c.mnt))
    assert is_mounted(c.mnt)


def test_mount_options_as_mount_8_gives_them(make_client):
    c = make_client()
    c.run("mount", "-o", "rw,noauto,x-systemd.automount,ro", "default", str(c.mnt))
    with pytest.raises(OSError) as e:
        (c.mnt / "x").write_bytes(b"x")
    assert e.value.errno == 30
    c.umount()
    assert "frob" in fails(c, USAGE, "mount", "-o", "frob", "default", str(c.mnt))


def test_the_helper_of_mount_8(make_client):
    c = make_client()
    helper = pathlib.Path(__file__).resolve().parents[2] / "data" / "mount.cachet"
    (c.home / "bin").mkdir()
    (c.home / "bin" / "cachet").symlink_to(BIN)
    env = {**c.env, "PATH": f"{c.home / 'bin'}:{c.env['PATH']}"}
    r = subprocess.run([str(helper), "default", str(c.mnt), "-s", "-o", "rw,offline"], env=env, capture_output=True,
                       stdin=subprocess.DEVNULL, timeout=60)
    assert r.returncode == 0, r.stderr
    assert is_mounted(c.mnt) and c.status()["state"] == "forced-offline"


def test_a_dead_mount_is_replaced(client):
    (client.mnt / "x").write_bytes(b"x")
    client.sigkill()
    with pytest.raises(OSError):
        os.listdir(client.mnt)
    client.mount()
    assert (client.mnt / "x").read_bytes() == b"x"


def test_umount_of_a_dead_mount(client):
    client.sigkill()
    r = client.run("umount", str(client.mnt))
    assert "nothing is lost" in r.stdout and not is_mounted(client.mnt)


def test_umount_of_what_is_not_mounted(make_client):
    c = make_client()
    fails(c, NOT_MOUNTED, "umount", str(c.mnt))
    fails(c, NOT_MOUNTED, "umount", "default")


def test_umount_while_a_file_is_open(client):
    with open(client.mnt / "x", "wb") as f:
        f.write(b"12")
        assert "--lazy" in fails(client, IN_USE, "umount", str(client.mnt))
        f.write(b"34")
    client.umount()
    client.mount()
    assert (client.mnt / "x").read_bytes() == b"1234"


def test_umount_says_that_unsent_work_stays(client):
    client.run("offline")
    (client.mnt / "x").write_bytes(b"x")
    r = client.run("umount", "default")
    assert "sealed" in r.stdout
    client.mount("--offline")
    assert (client.mnt / "x").read_bytes() == b"x"


def test_foreground_ends_at_sigint(make_client):
    c = make_client()
    p = subprocess.Popen([str(BIN), "mount", "--foreground", str(c.mnt)], env=c.env, stderr=subprocess.PIPE,
                         stdin=subprocess.DEVNULL)
    wait_for(lambda: is_mounted(c.mnt))
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=20)
    assert p.returncode == 0, err
    assert not is_mounted(c.mnt)


# --- keys, damage -------------------------------------------------------------------------------------

def unsent(client):
    """A volume with one unsent file, unmounted."""
    client.mount()
    client.sync()
    client.run("offline")
    (client.mnt / "unsent.txt").write_bytes(b"only here" * 1000)
    client.umount()
    return client


def test_a_wrong_key(make_client):
    c = unsent(make_client())
    right = key_file(c).read_text()
    before = Snapshot(c.volume)
    key_file(c).write_text("00" * 32 + "\n")
    fails(c, KEY, "mount", str(c.mnt))
    fails(c, KEY, "status")
    assert no_daemon(c) and Snapshot(c.volume) == before
    key_file(c).write_text(right)
    c.mount("--offline")
    assert (c.mnt / "unsent.txt").read_bytes() == b"only here" * 1000


def test_a_missing_key_is_not_made_anew(make_client):
    c = unsent(make_client())
    key_file(c).rename(c.home / "kept")
    r = c.run("mount", str(c.mnt), check=False)
    assert r.returncode in (KEY, USAGE, FAILED) and len(r.stderr.strip().splitlines()) == 1
    assert not key_file(c).exists() and no_daemon(c)
    (c.home / "kept").rename(key_file(c))
    c.mount("--offline")
    assert (c.mnt / "unsent.txt").exists()


def test_a_key_file_that_others_can_read(make_client):
    c = make_client()
    key_file(c).chmod(0o644)
    sentence = fails(c, USAGE, "mount", str(c.mnt))
    assert "600" in sentence and no_daemon(c)


@pytest.mark.parametrize("how", ["cut", "garbage", "flipped", "empty", "gone"])
def test_a_damaged_keyring(make_client, how):
    c = unsent(make_client())
    ring = c.volume / "keyring.json"
    whole = ring.read_bytes()
    if how == "cut":
        ring.write_bytes(whole[: len(whole) // 2])
    elif how == "garbage":
        ring.write_bytes(os.urandom(len(whole)))
    elif how == "empty":
        ring.write_bytes(b"")
    elif how == "gone":
        ring.unlink()
    else:
        o = json.loads(whole)
        for e in o["entries"]:
            ct = e["wrappedCEK"]["ct"]
            e["wrappedCEK"]["ct"] = ("B" if ct[0] == "A" else "A") + ct[1:]
        ring.write_text(json.dumps(o))
    r = c.run("mount", str(c.mnt), check=False)
    assert r.returncode in (DAMAGED, FAILED), r.stderr
    assert len(r.stderr.strip().splitlines()) == 1 and no_daemon(c)
    # Set aside or left as it is: the index with the unsent work is still there, and with the keyring it opens.
    ring.write_bytes(whole)
    c.mount("--offline")
    assert (c.mnt / "unsent.txt").read_bytes() == b"only here" * 1000


@pytest.mark.parametrize("page", [0, 1, 2, 5])
def test_a_damaged_page_of_the_index(make_client, page):
    c = unsent(make_client())
    index = c.volume / "index.db"
    if index.stat().st_size <= page * 4096:
        pytest.skip("the index has no such page")
    flip(index, page * 4096 + 200, 8)
    r = c.run("mount", "--offline", str(c.mnt), check=False)
    if r.returncode != 0:
        assert r.returncode == DAMAGED, r.stderr
        assert len(r.stderr.strip().splitlines()) == 1 and no_daemon(c)
    else:
        # A page that nothing needed yet: reading everything must see it, or not need it.
        try:
            assert (c.mnt / "unsent.txt").read_bytes() == b"only here" * 1000
        except OSError as e:
            assert e.errno == 5
        c.umount()
    flip(index, page * 4096 + 200, 8)
    c.mount("--offline")
    assert (c.mnt / "unsent.txt").read_bytes() == b"only here" * 1000


def test_a_damaged_blob_is_an_error_of_that_file_only(make_client):
    c = make_client().mount("--offline")
    (c.mnt / "bad.bin").write_bytes(os.urandom(300000))
    c.run("status")
    bad = {p for p in (c.volume / "blobs").rglob("*") if p.is_file()}
    (c.mnt / "good.bin").write_bytes(b"g" * 300000)
    c.umount()
    for blob in bad:
        flip(blob, 100, 4)
    c.mount("--offline")
    with pytest.raises(OSError) as e:
        (c.mnt / "bad.bin").read_bytes()
    assert e.value.errno == 5
    assert (c.mnt / "good.bin").read_bytes() == b"g" * 300000
    assert c.status()["damaged_chunks"] >= 1
    assert c.run("status", "--check", check=False).returncode == DAMAGED


# --- configuration ------------------------------------------------------------------------------------

def test_an_unknown_member_of_the_configuration(make_client):
    c = make_client()
    edit_config(c, cashe_size=7)
    assert "cashe_size" in fails(c, USAGE, "mount", str(c.mnt))
    assert "cashe_size" in fails(c, USAGE, "status")


def test_a_configuration_that_is_no_json(make_client):
    c = make_client()
    config_file(c).write_text("{ not json")
    fails(c, USAGE, "mount", str(c.mnt))


def test_a_volume_whose_data_are_gone(make_client):
    c = make_client()
    c.volume.rename(c.home / "moved")
    r = c.run("mount", str(c.mnt), check=False)
    assert r.returncode in (FAILED, DAMAGED) and len(r.stderr.strip().splitlines()) == 1
    assert no_daemon(c)


# --- the verbs on a mounted and an unmounted volume -------------------------------------------------------

def test_status_and_journal_of_an_unmounted_volume(make_client):
    c = unsent(make_client())
    o = c.status()
    assert o["mounted"] is False and o["state"] == "not-mounted" and o["pending"] >= 1
    assert "unsent.txt" in c.run("journal", "ls").stdout
    assert c.run("status", "--check", check=False).returncode == NOT_MOUNTED


@pytest.mark.parametrize("verb", ["sync", "online", "offline"])
def test_verbs_that_need_the_daemon_say_so(make_client, verb):
    assert "cachet mount" in fails(make_client(), NOT_MOUNTED, verb)


def test_a_path_below_the_mount_point_names_the_volume(client):
    (client.mnt / "dir").mkdir()
    r = client.run("status", "--json", str(client.mnt / "dir"))
    assert json.loads(r.stdout)["name"] == "default"
    r = client.run("status", "--json", ".", cwd=client.mnt / "dir")
    assert json.loads(r.stdout)["mountpoint"] == str(client.mnt)
    fails(client, USAGE, "status", "/usr")


def test_stat_tells_how_much_is_here(server, make_client):
    server.write("notes", "big.bin", os.urandom(1 << 20) * 4)
    c = make_client().mount()
    c.sync()
    o = json.loads(c.run("stat", "--json", str(c.mnt / "big.bin")).stdout)
    assert o["state"] == "none" and o["size"] == 4 << 20 and o["missing_bytes"] == 4 << 20
    digest(c.mnt / "big.bin")
    o = json.loads(c.run("stat", "--json", str(c.mnt / "big.bin")).stdout)
    assert o["state"] == "full" and o["missing_bytes"] == 0
    fails(c, FAILED, "stat", str(c.mnt / "nothing"))


def test_sync_wait_without_a_server_is_an_answer_not_a_hang(server, client):
    (client.mnt / "x").write_bytes(b"x")
    server.stop()
    start = time.monotonic()
    r = client.run("sync", "--wait", "--timeout", "5s", check=False)
    assert r.returncode in (OFFLINE, TIMEOUT) and time.monotonic() - start < 20
    assert len(r.stderr.strip().splitlines()) == 1


def test_sync_wait_held_offline_says_what_ends_it(client):
    client.run("offline")
    (client.mnt / "x").write_bytes(b"x")
    assert "cachet online" in fails(client, OFFLINE, "sync", "--wait")
    assert "waits for the link" in client.run("journal", "show", "1").stdout
    assert "--wait" in fails(client, USAGE, "sync", "--timeout", "1s")


def test_a_waiting_sync_does_not_hold_up_umount(server, client):
    (client.mnt / "x").write_bytes(os.urandom(1 << 20))
    server.stop()
    p = subprocess.Popen([str(BIN), "sync", "--wait"], env=client.env, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    start = time.monotonic()
    client.umount()
    assert time.monotonic() - start < 15
    p.wait(20)


def test_journal_numbers_of_nothing(client):
    fails(client, FAILED, "journal", "show", "424242")
    fails(client, FAILED, "journal", "drop", "424242")
    fails(client, USAGE, "journal", "show", "x")
    fails(client, FAILED, "conflicts", "resolve", "424242")


def test_a_refused_change_is_shown_retried_and_given_up(server, make_client):
    c = make_client().mount()
    server.stop()
    server.process = subprocess.Popen(
        [str(BIN), "serve", str(server.dir), "--listen", f"127.0.0.1:{server.port}", "--max-record-bytes", "1000"],
        stdout=subprocess.DEVNULL)
    (c.mnt / "big.txt").write_bytes(b"b" * 5000)
    (c.mnt / "small.txt").write_bytes(b"s")
    assert "journal" in fails(c, PENDING, "sync", "--wait", "--timeout", "60")
    assert server.read("notes", "small.txt") == b"s", "one refused change does not hold up the others"

    def refused():
        found = [o for o in json.loads(c.run("journal", "--json").stdout)["operations"] if o["state"] == "refused"]
        return found and found[0]
    one = wait_for(refused)
    # The server said so, or the client knew the limit already and spared the sending.
    assert one["path"] == "big.txt" and one["status"] in (413, 0)
    assert one["status"] == 413 or "at most 1000 " in one["error"]
    shown = c.run("journal", "show", str(one["seq"])).stdout
    assert "big.txt" in shown and ("HTTP 413" in shown or "at most 1000 " in shown)
    assert c.run("status", "--check", check=False).returncode == PENDING
    c.run("journal", "retry", str(one["seq"]))
    again = wait_for(refused)
    c.run("journal", "drop", str(again["seq"]))
    assert c.status()["pending"] == 0
    assert (c.mnt / "big.txt").read_bytes() == b"b" * 5000


def test_a_change_that_is_only_queued_cannot_be_dropped(client):
    client.run("offline")
    (client.mnt / "x").write_bytes(b"x")
    (one,) = json.loads(client.run("journal", "--json").stdout)["operations"]
    fails(client, FAILED, "journal", "drop", str(one["seq"]))
    assert client.status()["pending"] == 1


def test_a_held_change_waits_for_its_person(server, client):
    client.run("offline")
    (client.mnt / "held").write_bytes(b"x")
    (one,) = json.loads(client.run("journal", "--json").stdout)["operations"]
    client.run("journal", "hold", str(one["seq"]))
    fails(client, FAILED, "journal", "hold", str(one["seq"]))
    client.run("online")
    (client.mnt / "other").write_bytes(b"y")
    wait_for(lambda: "other" in server.records("notes"))
    wait_for(lambda: client.status()["pending"] == 1)  # its answer is here, too
    (one,) = json.loads(client.run("journal", "--json").stdout)["operations"]
    assert one["path"] == "held" and one["state"] == "held"
    client.run("journal", "retry", str(one["seq"]))
    wait_for(lambda: client.status()["pending"] == 0)


def test_journal_top_shows_what_is_unsent(client):
    """Once without a terminal; on one it is shown anew until interrupted."""
    client.run("offline")
    (client.mnt / "waits").write_bytes(b"x")
    out = client.run("journal", "top").stdout
    assert "1 operation to send" in out and "waits" in out and "\x1b" not in out
    code, shown = on_terminal(["/usr/bin/timeout", "-s", "INT", "5", str(BIN), "journal", "top"], client.env, [])
    assert shown.count("1 operation to send") >= 2, (code, shown)


def test_names_cannot_speak_to_the_terminal(client):
    client.run("offline")
    (client.mnt / "a\x1b]0;owned\x07b").write_bytes(b"x")
    out = client.run("journal", "ls").stdout
    assert "\x1b" not in out and "\\x1b" in out


def test_a_conflict_is_listed_shown_and_settled(server, make_client):
    server.write("notes", "cv.txt", b"base")
    c = make_client().mount()
    assert (c.mnt / "cv.txt").read_bytes() == b"base"
    c.run("offline")
    (c.mnt / "cv.txt").write_bytes(b"mine")
    server.write("notes", "cv.txt", b"theirs")
    c.run("online")
    wait_for(lambda: c.status()["conflicts"] == 1)
    (entry,) = json.loads(c.run("conflicts", "ls", "--json").stdout)["conflicts"]
    assert entry["origin_path"] == "cv.txt" and entry["local_path"].startswith("cv (conflict ")
    assert "changed here" in c.run("conflicts", "show", str(entry["id"])).stdout
    compared = c.run("conflicts", "diff", str(entry["id"])).stdout
    assert "-theirs" in compared and "+mine" in compared
    fails(c, FAILED, "conflicts", "diff", "424242")
    c.run("conflicts", "resolve", str(entry["id"]))
    assert c.status()["conflicts"] == 0
    assert "no conflicts" in c.run("conflicts", "ls").stdout


def test_the_log_is_private_and_names_nothing(client):
    (client.mnt / "very-secret-name").write_bytes(b"x")
    client.umount()
    log = client.volume / "daemon.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert b"very-secret-name" not in log.read_bytes()


def test_the_daemon_cannot_be_dumped_or_traced(client):
    pid = client.pid()
    core = pathlib.Path(f"/proc/{pid}/limits").read_text().split("Max core file size")[1].split()[0]
    assert core == "0"
    assert pathlib.Path(f"/proc/{pid}/environ").stat().st_uid == 0


def test_no_secret_is_on_a_command_line_or_in_the_environment(server, client):
    pid = client.pid()
    seen = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() + pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    assert server.token.encode() not in seen
    assert key_file(client).read_bytes().strip()[:32] not in seen


# --- full disks --------------------------------------------------------------------------------------------

@pytest.fixture
def small_disk(home):
    """A file system of 48 MB for state; only root can make one."""
    place = home / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)],
                                           capture_output=True).returncode:
        pytest.skip("making a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


def test_a_full_disk_is_an_error_of_the_writer_and_nothing_is_lost(small_disk, server, make_client):
    c = make_client()
    (small_disk / "state").mkdir()
    subprocess.run(["cp", "-a", str(c.home / "state" / "cachet"), str(small_disk / "state")], check=True)
    c.env["XDG_STATE_HOME"] = str(small_disk / "state")
    c.mount("--offline")
    (c.mnt / "first.bin").write_bytes(b"1" * 5000000)
    with pytest.raises(OSError) as e:
        for i in range(100):
            with open(c.mnt / f"fill-{i}.bin", "wb") as f:
                f.write(os.urandom(1000000))
                os.fsync(f.fileno())
    assert e.value.errno in (28, 122)
    assert (c.mnt / "first.bin").read_bytes() == b"1" * 5000000
    assert c.status()["mounted"]
    c.umount()
    c.mount("--offline")
    assert (c.mnt / "first.bin").read_bytes() == b"1" * 5000000


def test_init_on_a_full_disk_leaves_nothing(small_disk, bare):
    (small_disk / "fill").write_bytes(b"x" * (47 << 20))
    try:
        with open(small_disk / "fill", "ab") as f:
            while True:
                f.write(b"x" * 4096)
                f.flush()
    except OSError:
        pass
    bare.env["XDG_STATE_HOME"] = str(small_disk)
    fails(bare, FAILED, "init", "--no-check", "--token-file", "-", "https://e.example", stdin="t\n")
    assert [p for p in small_disk.rglob("*") if p.is_file()] == [small_disk / "fill"]
    assert list((bare.home / "config").rglob("*.json")) == []


# --- serve -----------------------------------------------------------------------------------------------

def test_a_second_server_on_the_same_data(server, bare):
    fails(bare, IN_USE, "serve", str(server.dir), "--listen", "127.0.0.1:0")


def test_a_server_without_tls_stays_on_this_machine(bare):
    fails(bare, USAGE, "serve", str(bare.home / "data"), "--listen", "0.0.0.0:0")


def test_import_of_a_directory_that_is_not_there(bare):
    fails(bare, FAILED, "serve", "import", "--store", "s", str(bare.home / "data"), str(bare.home / "none"))


def test_a_certificate_without_its_key(bare):
    assert "together" in fails(bare, USAGE, "serve", "--tls-cert", "x.pem", str(bare.home / "data"))
