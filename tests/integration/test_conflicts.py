"""Conflicts between two real devices of one account and a real server: what each rule makes of them, and what both devices then have.

The table of rules (docs/architecture.md) is one history: every row has its own files, `a` changes them and sends, `b` has changed them
offline and comes back; the history runs once for the module, each row is a test."""
import json
import mmap
import os
import pathlib
import shutil
import tempfile

import pytest

from conftest import Client, Server, wait_for

RULES = [
    {"match": "*.keep.json", "policy": "keep-both"},
    {"match": "fields/*", "policy": "merge"},
    {"match": "*.json", "policy": "merge"},
    {"match": "*.ours", "policy": "ours"},
    {"match": "*.theirs", "policy": "theirs"},
    {"match": "*.lines", "policy": "command", "command": 'diff3 -m "$2" "$1" "$3" > "$4"'},
    {"match": "*.slow", "policy": "command", "command": "echo no > $4; sleep 600", "timeout_ms": 300},
    {"match": "*.silent", "policy": "command", "command": "true"},
    {"store": "another", "policy": "theirs"},
]

# name: (at first, as `a` leaves it, as `b` leaves it, what both have at the end or None for two files)
EDITS = {
    "plain.txt": (b"base", b"theirs", b"mine", None),
    "equal.txt": (b"base", b"same", b"same", b"same"),
    "a.json": (b'{"x": 1,\n "y": 2.50}\n', b'{"x": 7,\n "y": 2.50}\n', b'{"x": 1,\n "y": 2.50,\n "z": []}\n',
               b'{"x": 7,\n "y": 2.50,\n "z": []}\n'),
    "field.json": (b'{"x": 1}', b'{"x": 2}', b'{"x": 3}', None),
    "dup.json": (b'{"x": 1, "x": 1}', b'{"x": 2, "x": 1}', b'{"x": 1, "x": 3}', None),
    "bad.json": (b'{"x": 1}', b'{"x": 1, "y": 2}', b'{"x": 1', None),
    "a.keep.json": (b'{"x": 1, "y": 1}', b'{"x": 2, "y": 1}', b'{"x": 1, "y": 2}', None),
    "big.json": (b'{"x": 1, "p": "' + b"p" * (5 << 20) + b'"}', b'{"x": 2}', b'{"x": 1, "y": 2}', None),
    "fields/record": (b'{"x": 1, "y": 1}', b'{"x": 2, "y": 1}', b'{"x": 1, "y": 2}', b'{"x": 2, "y": 2}'),
    "a.ours": (b"base", b"theirs", b"mine", b"mine"),
    "a.theirs": (b"base", b"theirs", b"mine", b"theirs"),
    "a.lines": (b"1\n2\n3\n4\n5\n", b"one\n2\n3\n4\n5\n", b"1\n2\n3\n4\nfive\n", b"one\n2\n3\n4\nfive\n"),
    "clash.lines": (b"1\n", b"2\n", b"3\n", None),
    "a.slow": (b"base", b"theirs", b"mine", None),
    "a.silent": (b"base", b"theirs", b"mine", None),
}


def set_rules(client, rules):
    path = next((client.home / "config" / "cachet").glob("*.json"))
    config = json.loads(path.read_text())
    config["conflicts"] = rules
    path.write_text(json.dumps(config))


def tree(client):
    out = {}
    for top, dirs, files in os.walk(client.mnt):
        for name in dirs:
            out[os.path.relpath(os.path.join(top, name), client.mnt) + "/"] = None
        for name in files:
            path = os.path.join(top, name)
            try:
                with open(path, "rb") as f:
                    out[os.path.relpath(path, client.mnt)] = f.read()
            except OSError:
                out[os.path.relpath(path, client.mnt)] = "?"
    return out


def listed(client, *args):
    return json.loads(client.run("conflicts", "ls", "--json", *args).stdout)["conflicts"]


def copies(have, path):
    stem, ext = os.path.splitext(path)
    return [n for n in have if n.startswith(stem + " (conflict ") and n.endswith(")" + ext)]


def edit(c, path, content):
    """As editors do: a new file renamed over the old one; but every other file is rewritten in place."""
    if len(path) % 2:
        (c.mnt / path).write_bytes(content)
        return
    (c.mnt / "tmp~").write_bytes(content)
    os.rename(c.mnt / "tmp~", c.mnt / path)


class Story:
    def __init__(self, home):
        self.server = Server(home)
        self.server.admin("store", "add", "notes", str(self.server.dir))
        self.server.start()
        self.a = Client(home, self.server, "a")
        self.b = Client(home, self.server, "b")

    def close(self):
        self.a.close()
        self.b.close()
        self.server.stop()

    def settle(self):
        self.a.sync()
        self.b.sync()
        self.a.sync()
        wait_for(lambda: tree(self.a) == tree(self.b))


def others_first(m):
    for d in ("dgone", "dmoved", "dedit", "dboth"):
        (m / d).mkdir()
        (m / d / "in.txt").write_bytes(b"in")
    for n in ("ad.txt", "da.txt", "mv.txt", "mm.txt", "dd.txt", "mode.txt", "saved.txt", "modes.txt"):
        (m / n).write_bytes(b"base")


def others_of_a(m):
    os.unlink(m / "ad.txt")                          # deleted there, edited here
    (m / "da.txt").write_bytes(b"edited there")      # edited there, deleted here
    os.rename(m / "mv.txt", m / "mv-there.txt")      # moved there, edited here
    os.rename(m / "mm.txt", m / "mm-there.txt")      # moved on both sides
    os.unlink(m / "dd.txt")                          # deleted on both sides
    (m / "new.txt").write_bytes(b"made there")       # made on both sides
    (m / "newdir").mkdir()                           # a directory made on both sides
    (m / "newdir" / "there").write_bytes(b"t")
    (m / "kind").mkdir()                             # a directory there, a file here
    os.unlink(m / "dgone" / "in.txt")
    os.rmdir(m / "dgone")                            # a directory deleted there, work in it here
    os.rename(m / "dmoved", m / "dmoved-there")      # a directory moved there, work in it here
    (m / "dedit" / "in.txt").write_bytes(b"edited there")  # work in it there, deleted here
    os.rename(m / "dboth", m / "dboth-there")        # moved on both sides
    for n in ("mode.txt", "saved.txt", "modes.txt"):
        os.chmod(m / n, 0o600)                       # made private there, edited here, the last with a mode of its own


def others_of_b(m):
    (m / "ad.txt").write_bytes(b"edited here")
    os.unlink(m / "da.txt")
    (m / "mv.txt").write_bytes(b"edited here")
    os.rename(m / "mm.txt", m / "mm-here.txt")
    os.unlink(m / "dd.txt")
    (m / "new.txt").write_bytes(b"made here")
    (m / "newdir").mkdir()
    (m / "newdir" / "here").write_bytes(b"h")
    (m / "kind").write_bytes(b"a file here")
    (m / "dgone" / "new.txt").write_bytes(b"work here")
    (m / "dmoved" / "new.txt").write_bytes(b"work here")
    shutil.rmtree(m / "dedit")
    os.rename(m / "dboth", m / "dboth-here")
    (m / "mode.txt").write_bytes(b"edited here")
    (m / "tmp~").write_bytes(b"edited here")
    os.rename(m / "tmp~", m / "saved.txt")
    os.chmod(m / "modes.txt", 0o640)
    (m / "modes.txt").write_bytes(b"edited here")


@pytest.fixture(scope="module")
def story():
    home = pathlib.Path(tempfile.mkdtemp(prefix="cachet-test-"))
    s = Story(home)
    try:
        set_rules(s.b, RULES)
        a, b = s.a.mount(), s.b.mount()
        (a.mnt / "fields").mkdir()
        for path, (first, *_) in EDITS.items():
            (a.mnt / path).write_bytes(first)
        others_first(a.mnt)
        a.sync()
        b.sync()
        assert tree(a) == tree(b)
        b.run("offline")
        for path, (_, there, here, _) in EDITS.items():
            edit(a, path, there)
            edit(b, path, here)
        others_of_a(a.mnt)
        others_of_b(b.mnt)
        a.sync()
        b.run("online")
        s.settle()
        s.have, s.listed = tree(a), listed(b, "--all")
        s.modes = {n: [(c.mnt / n).stat().st_mode & 0o777 for c in (a, b)] for n in ("mode.txt", "saved.txt", "modes.txt")}
        yield s
    finally:
        s.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("path", EDITS)
def test_two_versions_of_one_file(story, path):
    _, there, here, end = EDITS[path]
    if end is None:
        assert story.have[path] == there
        assert [story.have[n] for n in copies(story.have, path)] == [here]
        assert [c["resolved"] for c in story.listed if c["origin_path"] == path] == [False]
    else:
        assert story.have[path] == end
        assert not copies(story.have, path)
        assert all(c["resolved"] for c in story.listed if c["origin_path"] == path)


OTHERS = {
    "a deletion does not beat an edit": {"ad.txt": b"edited here"},
    "nor here": {"da.txt": b"edited there"},
    "a move and an edit are both kept": {"mv-there.txt": b"edited here", "mv.txt": None},
    "of two moves the origin's counts": {"mm-there.txt": b"base", "mm-here.txt": None, "mm.txt": None},
    "two deletions are one": {"dd.txt": None},
    "directories of one name are one": {"newdir/here": b"h", "newdir/there": b"t"},
    "a deleted directory comes back for work in it": {"dgone/new.txt": b"work here", "dgone/in.txt": None},
    "work follows its directory": {"dmoved-there/new.txt": b"work here", "dmoved/": None},
    "an edited file keeps its directory": {"dedit/in.txt": b"edited there"},
    "of two moves of a directory the origin's counts": {"dboth-there/in.txt": b"in", "dboth-here/": None},
}


@pytest.mark.parametrize("rule", OTHERS)
def test_other_conflicts(story, rule):
    for path, want in OTHERS[rule].items():
        assert story.have.get(path) == want, path


def test_a_mode_that_was_set_there_is_not_undone_by_an_edit_here(story):
    assert [story.have[n] for n in story.modes] == [b"edited here"] * 3
    assert story.modes == {"mode.txt": [0o600] * 2, "saved.txt": [0o600] * 2, "modes.txt": [0o640] * 2}


def test_two_files_of_one_name_are_both_kept(story):
    assert story.have["new.txt"] == b"made there"
    assert [story.have[n] for n in copies(story.have, "new.txt")] == [b"made here"]


def test_every_copy_is_listed_on_both_devices(story):
    there = sorted(n.rstrip("/") for n in story.have if " (conflict " in n)
    assert len(there) > 5
    for device in (story.a, story.b):
        assert sorted(c["local_path"] for c in listed(device) if " (conflict " in c["local_path"]) == there


def test_a_file_gives_way_to_a_directory(story):
    assert "kind/" in story.have
    assert [story.have[n] for n in copies(story.have, "kind")] == [b"a file here"]


def test_a_merge_command_sees_memory_only(server, make_client):
    """Its four files are memfds; nothing that it was given has a name on a disk."""
    a, b = pair(server, make_client, [{
        "policy": "command", "command":
        'for f in "$@"; do readlink "$f"; done | sort -u > "$4"; echo "$TMPDIR $CACHET_NAME" >> "$4"'}])
    meet(a, b, "x.where", b"1", b"2", b"3")
    lines = (b.mnt / "x.where").read_text().splitlines()
    assert lines[-1] == "/dev/shm x.where"
    assert all(line.startswith("/memfd:") for line in lines[:-1]), lines


def test_what_was_merged_is_merged_again(server, make_client):
    """The merged text is the next base: changes of either side are never taken back."""
    a, b = pair(server, make_client, [{"policy": "merge"}])
    meet(a, b, "r.json", b'{"a": 0, "b": 0, "c": 0}', b'{"a": 1, "b": 0, "c": 0}', b'{"a": 0, "b": 1, "c": 0}')
    b.run("offline")
    (a.mnt / "r.json").write_bytes(b'{"a": 1, "b": 1, "c": 2}')
    (b.mnt / "r.json").write_bytes(b'{"a": 3, "b": 1, "c": 0}')
    come_back(a, b)
    assert tree(a) == tree(b) == {"r.json": b'{"a": 3, "b": 1, "c": 2}'}


def test_a_merge_waits_for_a_program_that_writes(server, make_client):
    a, b = pair(server, make_client, [{"policy": "merge"}])
    begin(a, b, "r.json", b'{"a": 0, "b": 0}')
    with open(b.mnt / "r.json", "r+b", buffering=0) as f:
        f.write(b'{"a": 1, "b": 0}')
        os.fsync(f.fileno())
        (a.mnt / "r.json").write_bytes(b'{"a": 0, "b": 2}')
        a.sync()
        b.run("online")
        wait_for(lambda: listed(b))
        f.seek(0)
        f.write(b'{"a": 5, "b": 0}')
    come_back(a, b, {"r.json": b'{"a": 5, "b": 2}'})


@pytest.mark.parametrize("kill", [False, True])
def test_a_rule_survives_the_daemon(server, make_client, kill):
    """A conflict that was noted but not settled is settled by the next start."""
    a, b = pair(server, make_client, [{"policy": "command", "command": "sleep 1; cat $1 $2 $3 > $4"}])
    begin(a, b, "r", b"1")
    (a.mnt / "r").write_bytes(b"2")
    (b.mnt / "r").write_bytes(b"3")
    a.sync()
    b.run("online")
    wait_for(lambda: listed(b))
    if kill:
        b.sigkill()
        b.close()
    else:
        b.umount()
    b.mount()
    come_back(a, b)
    assert tree(a) == tree(b) == {"r": b"132"}


PICKS = {
    "--ours": {"r.txt": b"here"},
    "--theirs": {"r.txt": b"there"},
    "--both": {"r.txt": b"there", "copy": b"here"},
    "--merged": {"r.txt": b"by hand"},
}


@pytest.mark.parametrize("mounted", [True, False])
def test_a_person_settles_conflicts(server, make_client, home, mounted):
    a, b = pair(server, make_client, [])
    for pick in PICKS:
        server.write("notes", pick + ".txt", b"base")
    a.sync()
    b.sync()
    for pick in PICKS:
        (b.mnt / (pick + ".txt")).read_bytes()
    b.run("offline")
    for pick in PICKS:
        (a.mnt / (pick + ".txt")).write_bytes(b"there")
        (b.mnt / (pick + ".txt")).write_bytes(b"here")
    come_back(a, b)
    (home / "by-hand").write_bytes(b"by hand")
    ids = {c["origin_path"]: str(c["id"]) for c in listed(b)}
    if mounted:
        diff = json.loads(b.run("conflicts", "diff", "--json", ids["--ours.txt"]).stdout)
        assert "-there" in diff["diff"] and "+here" in diff["diff"]
    else:
        b.umount()
    for pick in PICKS:
        b.run("conflicts", "resolve", pick, *([str(home / "by-hand")] if pick == "--merged" else []), ids[pick + ".txt"])
    again = b.run("conflicts", "resolve", "--ours", ids["--ours.txt"], check=False)
    assert again.returncode != 0 and "no open conflict" in again.stderr
    if not mounted:
        b.mount()
    come_back(a, b)
    have = tree(a)
    assert have == tree(b)
    for pick, want in PICKS.items():
        assert have[pick + ".txt"] == want["r.txt"]
        assert copies(have, pick + ".txt") == []
        kept = [n for n in have if n.startswith(pick + " (")]
        assert [have[n] for n in kept] == ([want["copy"]] if "copy" in want else [])
    assert listed(b) == listed(a) == []
    assert {c["outcome"] for c in listed(b, "--all")} == {"ours", "theirs", "both", "merged"}


def test_a_deletion_that_lost_can_be_carried_out(server, make_client):
    a, b = pair(server, make_client, [])
    for name in ("edited-here", "edited-there"):
        server.write("notes", name, b"base")
    a.sync()
    b.sync()
    for name in ("edited-here", "edited-there"):
        (b.mnt / name).read_bytes()
    b.run("offline")
    os.unlink(a.mnt / "edited-here")
    (a.mnt / "edited-there").write_bytes(b"x")
    (b.mnt / "edited-here").write_bytes(b"y")
    os.unlink(b.mnt / "edited-there")
    come_back(a, b)
    assert sorted(tree(a)) == ["edited-here", "edited-there"]
    ids = {c["kind"]: str(c["id"]) for c in listed(b)}
    b.run("conflicts", "resolve", "--theirs", ids["edit-delete"])
    b.run("conflicts", "resolve", "--ours", ids["delete-edit"])
    come_back(a, b)
    assert tree(a) == tree(b) == {}


def test_dirty_pages_of_a_mapping_meet_a_change(server, make_client):
    """What a program wrote into its mapping before it heard of another version is kept, and so is that."""
    a, b = pair(server, make_client, [])
    (a.mnt / "m").write_bytes(b"base" * 3000)
    a.sync()
    b.sync()
    with open(b.mnt / "m", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[:4] = b"mine"
        (a.mnt / "m").write_bytes(b"there")
        (a.mnt / "later").write_bytes(b"")
        wait_for(lambda: (b.mnt / "later").exists())
        m[8000:8004] = b"more"
        m.flush()
    a.sync()
    b.sync()
    a.sync()
    wait_for(lambda: len(tree(a)) == 3 and tree(a) == tree(b))
    have = tree(a)
    assert have["m"] == b"there"
    assert [have[n] for n in copies(have, "m")] == [b"mine" + b"base" * 1999 + b"more" + b"base" * 999]


def test_a_rule_that_is_none_is_named(make_client):
    c = make_client()
    for bad in ([{"policy": "merg"}], [{"policy": "command"}], [{"policy": "ours", "command": "x"}], {"policy": "ours"},
                [{"policy": "ours", "glob": "*"}], [{"policy": "command", "command": "x", "timeout_ms": 0}]):
        set_rules(c, bad)
        r = c.run("status", check=False)
        assert r.returncode != 0 and "'conflicts'" in r.stderr, bad


def pair(server, make_client, rules):
    a, b = make_client("a"), make_client("b")
    set_rules(b, rules)
    return a.mount(), b.mount()


def begin(a, b, path, content):
    (a.mnt / path).write_bytes(content)
    a.sync()
    b.sync()
    assert (b.mnt / path).read_bytes() == content
    b.run("offline")


def come_back(a, b, want=None):
    a.sync()
    b.run("online")
    b.sync()
    a.sync()
    try:
        wait_for(lambda: tree(a) == tree(b) and want in (None, tree(a)), 10)
    except AssertionError:
        print("A", tree(a), "B", tree(b), listed(b, "--all"), b.status(), a.status())
        raise


def meet(a, b, path, first, there, here):
    begin(a, b, path, first)
    (a.mnt / path).write_bytes(there)
    (b.mnt / path).write_bytes(here)
    come_back(a, b)
