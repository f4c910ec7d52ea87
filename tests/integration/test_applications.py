"""Ordinary programs on the mount: they must not notice that it is not a disk."""
import os
import shutil
import sqlite3
import subprocess

import pytest


def sh(command, cwd, **kw):
    r = subprocess.run(["sh", "-ec", command], cwd=cwd, capture_output=True, text=True, timeout=300, **kw)
    assert r.returncode == 0, f"{command}\n{r.stdout}\n{r.stderr}"
    return r.stdout


@pytest.fixture
def repository(tmp_path):
    """A git repository of 2,000 files in 40 directories."""
    src = tmp_path / "src"
    for d in range(40):
        (src / f"dir{d}").mkdir(parents=True)
        for f in range(50):
            (src / f"dir{d}" / f"file{f}.txt").write_text(f"{d} {f}\n" * (1 + f % 37))
    sh("git init -q -b main && git add . && git -c user.name=t -c user.email=t@example.org commit -qm all", src)
    return src


def test_git_clone_commit_and_fsck(client, repository):
    sh(f"git clone -q {repository} clone", client.mnt)
    clone = client.mnt / "clone"
    assert sh("git status --porcelain", clone) == ""
    (clone / "dir3" / "file4.txt").write_text("changed")
    sh("git add -A && git -c user.name=t -c user.email=t@example.org commit -qm change", clone)
    assert "dangling" not in sh("git fsck --strict 2>&1", clone)
    assert sh("git log --oneline | wc -l", clone).strip() == "2"
    sh("git gc -q && git fsck --strict", clone)


@pytest.mark.parametrize("mode", ["WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"])
def test_sqlite(client, mode):
    path = client.mnt / f"{mode}.db"
    db = sqlite3.connect(path)
    assert db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0].upper() == mode
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
    for i in range(20):
        with db:
            db.executemany("INSERT INTO t (v) VALUES (?)", [(f"{i} {k}" * 30,) for k in range(100)])
    with db:
        db.execute("DELETE FROM t WHERE id % 3 = 0")
    db.execute("VACUUM")
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM t").fetchone()[0] == 1334
    db.close()


def test_rsync_twice_moves_nothing_the_second_time(client, repository):
    out = sh(f"rsync -a --stats {repository}/dir1 {repository}/dir2 copy/", client.mnt)
    assert "Number of regular files transferred: 100" in out
    out = sh(f"rsync -a --stats {repository}/dir1 {repository}/dir2 copy/", client.mnt)
    assert "Number of regular files transferred: 0" in out
    sh(f"rsync -a --checksum --dry-run --itemize-changes {repository}/dir1 copy/ > ../changes && ! test -s ../changes",
       client.mnt)


def test_tar_keeps_times_modes_links(client, tmp_path):
    src = tmp_path / "t"
    (src / "d").mkdir(parents=True)
    (src / "d" / "a").write_text("a" * 70000)
    os.link(src / "d" / "a", src / "d" / "hard")
    os.symlink("d/a", src / "soft")
    (src / "run.sh").write_text("#!/bin/sh\n")
    os.chmod(src / "run.sh", 0o755)
    os.utime(src / "d" / "a", ns=(10**18, 10**18 + 123456789))
    sh(f"tar -C {tmp_path} -cf {tmp_path}/t.tar t && tar -xpf {tmp_path}/t.tar", client.mnt)
    sh(f"tar -df {tmp_path}/t.tar", client.mnt)
    assert os.stat(client.mnt / "t/d/a").st_ino == os.stat(client.mnt / "t/d/hard").st_ino


def test_editors_save_by_rename_keeps_one_record(server, client):
    f = client.mnt / "notes.txt"
    f.write_text("first")
    client.sync()
    rid = server.records("notes")["notes.txt"]["id"]
    for n in range(5):
        tmp = client.mnt / ".notes.txt.swp"
        with open(tmp, "w", encoding="ascii") as out:
            out.write(f"save {n}")
            out.flush()
            os.fsync(out.fileno())
        os.rename(tmp, f)
    client.sync()
    have = server.records("notes")
    assert list(have) == ["notes.txt"] and server.read("notes", "notes.txt") == b"save 4"
    assert rid


def test_a_tree_copied_in_arrives_whole_on_another_device(make_client, repository):
    a, b = make_client("a").mount(), make_client("b").mount()
    shutil.copytree(repository / "dir5", a.mnt / "dir5")
    a.sync()
    b.sync()
    sh(f"diff -r {repository}/dir5 {b.mnt}/dir5", b.mnt)


def test_build_tools(client):
    (client.mnt / "p").mkdir()
    (client.mnt / "p" / "main.c").write_text('#include <stdio.h>\nint main(void){puts("ok");return 0;}\n')
    (client.mnt / "p" / "Makefile").write_text("main: main.c\n\tcc -o main main.c\n")
    sh("make && ./main | grep -q ok && make | grep -q 'up to date'", client.mnt / "p")
