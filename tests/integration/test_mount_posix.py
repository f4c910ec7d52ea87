"""What applications expect of a POSIX file system, on a real mount of a volume without an origin.

Many tests look twice: through the kernel's cache, and after a remount, which shows what reached the volume.
"""
import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time

import pytest

from fs_fixtures import fsmount, mnt  # noqa: F401 (fixtures)

MANY = int(os.environ.get("CACHET_TEST_ENTRIES", "5000"))
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD = -100
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE_RANGE, FALLOC_ZERO_RANGE = 1, 2, 8, 16
libc = ctypes.CDLL(None, use_errno=True)


def renameat2(a, b, flags):
    if libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def fallocate(fd, mode, off, length):
    if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def raises(code, fn, *args, **kwargs):
    with pytest.raises(OSError) as e:
        fn(*args, **kwargs)
    assert e.value.errno == code, errno.errorcode[e.value.errno]


# --- content ---

@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65535, 65536, 65537, 1048576, 3000001])
def test_what_was_written_is_read_after_a_remount(fsmount, size):
    data = os.urandom(size)
    (fsmount.path / "f").write_bytes(data)
    assert (fsmount.path / "f").read_bytes() == data
    fsmount.remount()
    assert (fsmount.path / "f").stat().st_size == size
    assert (fsmount.path / "f").read_bytes() == data


def test_closed_files_survive_sigkill(fsmount):
    for i in range(20):
        (fsmount.path / f"f{i}").write_bytes(b"%d" % i * 1000)
    os.rename(fsmount.path / "f0", fsmount.path / "g")
    os.unlink(fsmount.path / "f1")
    os.chmod(fsmount.path / "f2", 0o600)
    os.utime(fsmount.path / "f3", ns=(1, 2_000_000_003))
    fsmount.kill()
    fsmount.start()
    assert sorted(os.listdir(fsmount.path)) == sorted([f"f{i}" for i in range(2, 20)] + ["g"])
    assert (fsmount.path / "g").read_bytes() == b"0" * 1000
    assert stat.S_IMODE((fsmount.path / "f2").stat().st_mode) == 0o600
    assert (fsmount.path / "f3").stat().st_mtime_ns == 2_000_000_003


def test_a_shared_mapping_written_and_synced_is_in_the_file(fsmount):
    path = fsmount.path / "m"
    path.write_bytes(b"\0" * 300000)
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 300000) as m:
        m[0:5] = b"begin"
        m[150000:150006] = b"middle"
        m[299997:300000] = b"end"
        m.flush()
    fsmount.kill()
    fsmount.start()
    data = path.read_bytes()
    assert data[0:5] == b"begin" and data[150000:150006] == b"middle" and data[299997:] == b"end"
    assert data.count(0) == 300000 - 14


def test_a_mapping_outlives_its_descriptor_and_the_name(mnt):
    path = mnt / "m"
    path.write_bytes(b"a" * 8192)
    f = open(path, "r+b")
    m = mmap.mmap(f.fileno(), 8192)
    f.close()
    os.unlink(path)
    m[4096:4100] = b"late"
    m.flush()
    assert m[4095:4101] == b"alatea"
    m.close()


def test_an_unlinked_open_file_lives_until_it_is_closed(mnt):
    fd = os.open(mnt / "gone", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"before")
    os.unlink(mnt / "gone")
    os.write(fd, b" after")
    assert os.pread(fd, 100, 0) == b"before after"
    st = os.fstat(fd)
    assert (st.st_nlink, st.st_size) == (0, 12)
    os.ftruncate(fd, 3)
    assert os.pread(fd, 100, 0) == b"bef"
    os.fsync(fd)
    os.close(fd)
    assert os.listdir(mnt) == []


def test_a_replaced_open_file_keeps_its_content(mnt):
    (mnt / "a").write_bytes(b"old")
    (mnt / "b").write_bytes(b"new")
    with open(mnt / "a", "rb") as f:
        os.rename(mnt / "b", mnt / "a")
        assert f.read() == b"old"
        assert os.fstat(f.fileno()).st_nlink == 0
    assert (mnt / "a").read_bytes() == b"new"


def _append(path, tag, n):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(n):
        os.write(fd, tag * 100 + b"\n")
    os.close(fd)


def test_appends_of_two_processes_never_overwrite_each_other(mnt):
    path = mnt / "log"
    ps = [multiprocessing.Process(target=_append, args=(path, t, 300)) for t in (b"x", b"y")]
    for p in ps:
        p.start()
    for p in ps:
        p.join()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 600
    assert sorted(set(lines)) == [b"x" * 100, b"y" * 100]
    assert lines.count(b"x" * 100) == 300


def test_truncation_down_and_up_reads_zeros(fsmount):
    path = fsmount.path / "t"
    path.write_bytes(b"z" * 200000)
    os.truncate(path, 70001)
    os.truncate(path, 150000)
    want = b"z" * 70001 + b"\0" * (150000 - 70001)
    assert path.read_bytes() == want
    fsmount.remount()
    assert path.read_bytes() == want


def test_o_trunc_empties_and_a_write_behind_the_end_leaves_a_hole(fsmount):
    path = fsmount.path / "t"
    path.write_bytes(b"q" * 100000)
    with open(path, "wb") as f:
        assert os.fstat(f.fileno()).st_size == 0
        f.seek(90000)
        f.write(b"tail")
    fsmount.remount()
    assert path.read_bytes() == b"\0" * 90000 + b"tail"


def test_a_write_only_descriptor_can_write_part_of_a_page(mnt):
    path = mnt / "p"
    path.write_bytes(b"0123456789" * 1000)
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"XX", 5001)
    os.close(fd)
    data = path.read_bytes()
    assert data[5000:5004] == b"0XX3" and len(data) == 10000


def test_the_largest_offset_is_refused_not_wrapped(mnt):
    fd = os.open(mnt / "big", os.O_RDWR | os.O_CREAT)
    raises(errno.EFBIG, os.ftruncate, fd, 2**63 - 1)
    os.ftruncate(fd, 2**40)
    assert os.fstat(fd).st_size == 2**40
    assert os.pread(fd, 5, 2**40 - 5) == b"\0" * 5
    os.close(fd)


# --- holes ---

def test_seek_hole_and_data_know_the_holes(fsmount):
    path = fsmount.path / "s"
    with open(path, "wb") as f:
        f.seek(1 << 20)
        f.write(b"d" * 65536)
        f.truncate(4 << 20)
    fsmount.remount()
    fd = os.open(path, os.O_RDONLY)
    data = os.lseek(fd, 0, os.SEEK_DATA)
    assert 0 < data <= 1 << 20
    assert (1 << 20) + 65536 <= os.lseek(fd, data, os.SEEK_HOLE) < 4 << 20
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    raises(errno.ENXIO, os.lseek, fd, 4 << 20, os.SEEK_DATA)
    raises(errno.ENXIO, os.lseek, fd, 3 << 20, os.SEEK_DATA)
    assert os.fstat(fd).st_blocks * 512 < 1 << 20
    os.close(fd)


def test_seek_data_sees_what_is_written_but_not_flushed(mnt):
    fd = os.open(mnt / "s", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 20)
    os.pwrite(fd, b"data", 500000)
    at = os.lseek(fd, 0, os.SEEK_DATA)
    assert at <= 500000
    other = os.open(mnt / "s", os.O_RDONLY)
    assert os.lseek(other, 0, os.SEEK_DATA) <= 500000
    os.pwrite(fd, b"x", 2 << 20)
    assert os.lseek(other, 1 << 20, os.SEEK_DATA) <= 2 << 20
    os.close(other)
    os.close(fd)


def test_a_punched_hole_reads_zeros_and_frees_blocks(fsmount):
    path = fsmount.path / "h"
    path.write_bytes(b"p" * (1 << 20))
    before = path.stat().st_blocks
    fd = os.open(path, os.O_RDWR)
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 100000, 500000)
    os.fsync(fd)
    os.close(fd)
    want = b"p" * 100000 + b"\0" * 500000 + b"p" * ((1 << 20) - 600000)
    assert path.read_bytes() == want
    fsmount.remount()
    assert path.read_bytes() == want
    assert path.stat().st_blocks < before


def test_fallocate_grows_keeps_and_refuses(mnt):
    fd = os.open(mnt / "a", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 100000)
    assert os.fstat(fd).st_size == 100000
    fallocate(fd, FALLOC_KEEP_SIZE, 0, 500000)
    assert os.fstat(fd).st_size == 100000
    os.pwrite(fd, b"x" * 100000, 0)
    fallocate(fd, FALLOC_ZERO_RANGE, 10, 20)
    assert os.pread(fd, 40, 0) == b"x" * 10 + b"\0" * 20 + b"x" * 10
    raises(errno.EOPNOTSUPP, fallocate, fd, FALLOC_COLLAPSE_RANGE, 0, 4096)
    os.close(fd)


def test_copy_file_range_copies(mnt):
    data = os.urandom(300000)
    (mnt / "a").write_bytes(data)
    with open(mnt / "a", "rb") as a, open(mnt / "b", "wb") as b:
        done = 0
        while done < len(data):
            n = os.copy_file_range(a.fileno(), b.fileno(), len(data) - done)
            assert n > 0
            done += n
    assert (mnt / "b").read_bytes() == data


# --- names ---

def test_rename_flags(mnt):
    (mnt / "a").write_bytes(b"a")
    (mnt / "b").write_bytes(b"b")
    raises(errno.EEXIST, renameat2, mnt / "a", mnt / "b", RENAME_NOREPLACE)
    renameat2(mnt / "a", mnt / "c", RENAME_NOREPLACE)
    renameat2(mnt / "c", mnt / "b", RENAME_EXCHANGE)
    assert ((mnt / "b").read_bytes(), (mnt / "c").read_bytes()) == (b"a", b"b")
    raises(errno.EINVAL, renameat2, mnt / "b", mnt / "w", RENAME_WHITEOUT)
    raises(errno.ENOENT, renameat2, mnt / "b", mnt / "none", RENAME_EXCHANGE)


def test_exchange_of_a_file_and_a_directory_of_other_parents(fsmount):
    m = fsmount.path
    (m / "d/x").mkdir(parents=True)
    (m / "e").mkdir()
    (m / "e/f").write_bytes(b"file")
    (m / "d/x/in").write_bytes(b"in")
    renameat2(m / "d/x", m / "e/f", RENAME_EXCHANGE)
    for _ in range(2):
        assert (m / "d/x").read_bytes() == b"file"
        assert (m / "e/f/in").read_bytes() == b"in"
        assert ((m / "d").stat().st_nlink, (m / "e").stat().st_nlink) == (2, 3)
        fsmount.remount()


def test_rename_refuses_what_posix_refuses(mnt):
    (mnt / "d/sub").mkdir(parents=True)
    (mnt / "full").mkdir()
    (mnt / "full/f").write_bytes(b"")
    (mnt / "f").write_bytes(b"")
    raises(errno.EINVAL, os.rename, mnt / "d", mnt / "d/sub/d")
    raises(errno.ENOTEMPTY, os.rename, mnt / "d", mnt / "full")
    raises(errno.ENOTDIR, os.rename, mnt / "d", mnt / "f")
    raises(errno.EISDIR, os.rename, mnt / "f", mnt / "d")
    raises(errno.ENOTEMPTY, os.rmdir, mnt / "full")
    raises(errno.EISDIR, os.unlink, mnt / "d")
    raises(errno.ENOTDIR, os.rmdir, mnt / "f")


def test_hard_links_are_one_file(fsmount):
    m = fsmount.path
    (m / "d").mkdir()
    (m / "a").write_bytes(b"one")
    os.link(m / "a", m / "d/b")
    with open(m / "d/b", "ab") as f:
        f.write(b" two")
    for _ in range(2):
        a, b = (m / "a").stat(), (m / "d/b").stat()
        assert a.st_ino == b.st_ino and a.st_nlink == b.st_nlink == 2
        assert (m / "a").read_bytes() == b"one two"
        fsmount.remount()
    os.unlink(m / "a")
    assert (m / "d/b").stat().st_nlink == 1
    raises(errno.EPERM, os.link, m / "d", m / "dirlink")


def test_names_of_255_bytes_work_and_256_do_not(fsmount):
    m = fsmount.path
    for name in ("n" * 255, "x" + "é" * 127):
        (m / name).write_bytes(b"x")
        os.rename(m / name, m / ("m" + name[1:]))
    assert len(os.listdir(m)) == 2
    raises(errno.ENAMETOOLONG, (m / ("n" * 256)).write_bytes, b"")
    raises(errno.ENAMETOOLONG, (m / ("n" * 256)).stat)
    fsmount.remount()
    assert sorted(len(os.fsencode(n)) for n in os.listdir(m)) == [255, 255]


def test_names_are_bytes(fsmount):
    name = os.fsencode(fsmount.path) + b"/\xff\xfe \n\t'\"\\"
    with open(name, "wb") as f:
        f.write(b"odd")
    fsmount.remount()
    assert os.listdir(os.fsencode(fsmount.path)) == [b"\xff\xfe \n\t'\"\\"]
    with open(name, "rb") as f:
        assert f.read() == b"odd"


def test_symlinks_up_to_the_longest_target(fsmount):
    m = fsmount.path
    for n, target in enumerate(("x", "../elsewhere", "t/" * 2047)):
        os.symlink(target, m / f"l{n}")
        assert os.readlink(m / f"l{n}") == target
        assert os.lstat(m / f"l{n}").st_size == len(target)
    fsmount.remount()
    assert os.readlink(m / "l2") == "t/" * 2047


def test_fifos_sockets_and_devices_can_be_made(fsmount):
    m = fsmount.path
    os.mkfifo(m / "fifo", 0o640)
    os.mknod(m / "sock", stat.S_IFSOCK | 0o600)
    if os.getuid() == 0:
        os.mknod(m / "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    fsmount.remount()
    assert stat.S_ISFIFO((m / "fifo").stat().st_mode)
    assert stat.S_ISSOCK((m / "sock").stat().st_mode)
    if os.getuid() == 0:
        st = (m / "dev").stat()
        assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3)


def test_a_deleted_name_can_be_made_again_as_another_kind(mnt):
    for _ in range(50):
        (mnt / "x").write_bytes(b"f")
        os.unlink(mnt / "x")
        (mnt / "x").mkdir()
        os.rmdir(mnt / "x")
        os.symlink("y", mnt / "x")
        os.unlink(mnt / "x")
    assert os.listdir(mnt) == []


def test_a_file_without_a_name_is_refused_cleanly(mnt):
    """O_TMPFILE: libfuse 3.14 has no such operation. Programs then take an ordinary file and unlink it."""
    raises(errno.EOPNOTSUPP, os.open, mnt, os.O_TMPFILE | os.O_RDWR)
    with tempfile.TemporaryFile(dir=mnt) as f:
        f.write(b"anonymous")
        assert os.fstat(f.fileno()).st_nlink == 0


def test_of_many_that_make_one_name_exclusively_one_does(mnt):
    won = [0] * 100

    def make():
        for i in range(len(won)):
            try:
                os.close(os.open(mnt / f"{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                won[i] += 1
            except FileExistsError:
                pass

    threads = [threading.Thread(target=make) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert won == [1] * len(won)


def test_a_tree_deeper_than_the_longest_path(fsmount):
    depth = 500  # its path has 5,500 bytes

    def down():
        fd = os.open(fsmount.path, os.O_RDONLY)
        for _ in range(depth):
            below = os.open("directory0", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        return fd

    fd = os.open(fsmount.path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory0", dir_fd=fd)
        below = os.open("directory0", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.mkdir("deepest", dir_fd=fd)
    raises(errno.EINVAL, os.rename, fsmount.path / "directory0", "deepest/x", dst_dir_fd=fd)
    os.close(fd)
    fsmount.remount()
    fd = down()
    assert os.listdir(fd) == ["deepest"]
    os.close(fd)
    subprocess.run(["rm", "-rf", str(fsmount.path / "directory0")], check=True)
    assert os.listdir(fsmount.path) == []


# --- directories ---

def test_many_entries_are_listed_once_each(fsmount):
    d = fsmount.path / "many"
    d.mkdir()
    want = {f"entry-{i:06}" for i in range(MANY)}
    for name in want:
        os.close(os.open(d / name, os.O_CREAT | os.O_WRONLY))
    for _ in range(2):
        names = os.listdir(d)
        assert len(names) == MANY and set(names) == want
        assert sum(e.stat().st_size == 0 for e in os.scandir(d)) == MANY
        fsmount.remount()


def test_deleting_while_listing_misses_nothing(mnt):
    d = mnt / "d"
    d.mkdir()
    for i in range(3000):
        os.close(os.open(d / f"{i}", os.O_CREAT))
    with os.scandir(d) as it:
        for e in it:
            os.unlink(e.path)
    assert os.listdir(d) == []
    os.rmdir(d)


def test_renaming_while_listing_shows_every_other_name_once(mnt):
    d = mnt / "d"
    d.mkdir()
    for i in range(2000):
        os.close(os.open(d / f"{i}", os.O_CREAT))
    seen = []
    with os.scandir(d) as it:
        for n, e in enumerate(it):
            seen.append(e.name)
            if n == 100:
                os.rename(d / "1999", d / "renamed")
                os.unlink(d / "1998")
    others = [n for n in seen if n not in ("1999", "1998", "renamed")]
    assert sorted(others) == sorted(str(i) for i in range(1998))


def test_telldir_and_seekdir_come_back_to_the_same_name(mnt):
    for i in range(500):
        (mnt / f"{i}").write_bytes(b"")
    out = subprocess.run(["perl", "-e", r'''
        opendir(D, $ARGV[0]); for (1..100) { readdir D }
        $p = telldir D; @a = readdir D; seekdir(D, $p); @b = readdir D;
        print "@a" eq "@b" && @a == 402 ? "same" : "different";''', str(mnt)], capture_output=True, text=True)
    assert out.stdout == "same"


def test_dots_have_the_right_numbers(mnt):
    (mnt / "d/e").mkdir(parents=True)
    out = subprocess.run(["ls", "-1aif", str(mnt / "d/e")], capture_output=True, text=True, check=True)
    dots = {line.split()[1]: int(line.split()[0]) for line in out.stdout.splitlines()}
    assert dots["."] == (mnt / "d/e").stat().st_ino
    assert dots[".."] == (mnt / "d").stat().st_ino


def test_link_counts_of_directories(mnt):
    (mnt / "d").mkdir()
    for i in range(5):
        (mnt / f"d/{i}").mkdir()
    assert (mnt / "d").stat().st_nlink == 7
    os.rename(mnt / "d/0", mnt / "0")
    os.rmdir(mnt / "d/1")
    assert (mnt / "d").stat().st_nlink == 5
    assert (mnt / "0").stat().st_nlink == 2


def test_a_removed_directory_in_use_is_empty_and_takes_nothing(mnt):
    (mnt / "d").mkdir()
    fd = os.open(mnt / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(mnt / "d")
    assert os.listdir(fd) == []
    raises(errno.ENOENT, os.open, "f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.fsync(fd)
    os.close(fd)


# --- attributes ---

def test_times_are_exact_to_the_nanosecond_and_stay(fsmount):
    path = fsmount.path / "t"
    path.write_bytes(b"x")
    for when in (1, 1_234_567_890_123_456_789, 2**33 * 10**9 + 5, -5_000_000_001):
        os.utime(path, ns=(when + 7, when))
        fsmount.remount()
        st = path.stat()
        assert (st.st_atime_ns, st.st_mtime_ns) == (when + 7, when)


def test_utime_on_an_open_file_survives_later_close(fsmount):
    path = fsmount.path / "t"
    with open(path, "wb") as f:
        f.write(b"content")
        f.flush()
        os.utime(f.fileno(), ns=(3_000_000_000, 4_000_000_000))
    assert path.stat().st_mtime_ns == 4_000_000_000
    fsmount.remount()
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (3_000_000_000, 4_000_000_000)


def test_a_write_changes_mtime_and_ctime_and_a_rename_only_ctime(fsmount):
    path = fsmount.path / "t"
    path.write_bytes(b"1")
    a = path.stat()
    time.sleep(0.02)
    with open(path, "ab") as f:
        f.write(b"2")
    b = path.stat()
    assert b.st_mtime_ns > a.st_mtime_ns and b.st_ctime_ns > a.st_ctime_ns
    time.sleep(0.02)
    os.rename(path, fsmount.path / "u")
    c = (fsmount.path / "u").stat()
    assert c.st_mtime_ns == b.st_mtime_ns and c.st_ctime_ns > b.st_ctime_ns
    fsmount.remount()
    d = (fsmount.path / "u").stat()
    assert d.st_mtime_ns == c.st_mtime_ns


def test_mode_and_inode_number_stay(fsmount):
    path = fsmount.path / "f"
    path.write_bytes(b"")
    os.chmod(path, 0o4711)
    before = path.stat()
    fsmount.remount()
    after = path.stat()
    assert after.st_ino == before.st_ino and stat.S_IMODE(after.st_mode) == 0o4711


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_permissions_are_checked_and_suid_is_cleared(mnt):
    path = mnt / "f"
    path.write_bytes(b"secret")
    os.chmod(path, 0o600)
    os.chmod(mnt, 0o755)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert subprocess.run([*as_nobody, "cat", str(path)], capture_output=True).returncode != 0
    os.chmod(path, 0o6777)
    assert subprocess.run([*as_nobody, "sh", "-c", f"echo more >> {path}"]).returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    os.chmod(path, 0o6755)
    os.chown(path, 65534, 65534)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to change groups")
def test_a_setgid_directory_hands_its_group_on(mnt):
    (mnt / "d").mkdir()
    os.chown(mnt / "d", -1, 4321)
    os.chmod(mnt / "d", 0o2775)
    (mnt / "d/f").write_bytes(b"")
    (mnt / "d/sub").mkdir()
    assert (mnt / "d/f").stat().st_gid == 4321
    assert (mnt / "d/sub").stat().st_gid == 4321
    assert (mnt / "d/sub").stat().st_mode & stat.S_ISGID


def test_umask_is_applied_once(mnt):
    old = os.umask(0o027)
    try:
        os.close(os.open(mnt / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(mnt / "d", 0o777)
    finally:
        os.umask(old)
    assert stat.S_IMODE((mnt / "f").stat().st_mode) == 0o640
    assert stat.S_IMODE((mnt / "d").stat().st_mode) == 0o750


def test_xattrs_come_and_go(fsmount):
    path = fsmount.path / "f"
    path.write_bytes(b"")
    assert os.listxattr(path) == []
    os.setxattr(path, "user.a", b"one")
    os.setxattr(path, "user.big", b"b" * 60000)
    os.setxattr(path, "user.empty", b"")
    raises(errno.EEXIST, os.setxattr, path, "user.a", b"", os.XATTR_CREATE)
    raises(errno.ENODATA, os.setxattr, path, "user.none", b"", os.XATTR_REPLACE)
    raises(errno.ENODATA, os.getxattr, path, "user.none")
    raises(errno.EOPNOTSUPP, os.setxattr, path, "system.posix_acl_access", b"\x02\0\0\0")
    raises(errno.EOPNOTSUPP, os.setxattr, path, "security.selinux", b"label")
    for call in (os.getxattr, os.removexattr):
        raises(errno.EOPNOTSUPP, call, path, "security.selinux")
    os.removexattr(path, "user.empty")
    raises(errno.ENODATA, os.removexattr, path, "user.empty")
    fsmount.remount()
    assert sorted(os.listxattr(path)) == ["user.a", "user.big"]
    assert os.getxattr(path, "user.a") == b"one"
    assert os.getxattr(path, "user.big") == b"b" * 60000
    os.removexattr(path, "user.a")
    os.removexattr(path, "user.big")
    assert os.listxattr(path) == []


def test_xattrs_follow_hard_links(mnt):
    (mnt / "a").write_bytes(b"")
    os.link(mnt / "a", mnt / "b")
    raises(errno.ENODATA, os.getxattr, mnt / "b", "user.x")
    os.setxattr(mnt / "a", "user.x", b"v")
    assert os.getxattr(mnt / "b", "user.x") == b"v"


def test_statfs_tells_the_limit(mnt):
    st = os.statvfs(mnt)
    assert st.f_namemax == 255
    assert 0 < st.f_bavail <= st.f_bfree <= st.f_blocks
    assert st.f_blocks * st.f_frsize == 500_000_000 // st.f_frsize * st.f_frsize


# --- locks ---

def _try_lock(path, kind, out):
    with open(path, "r+b") as f:
        try:
            if kind == "flock":
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
            out.put(True)
        except OSError:
            out.put(False)


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
def test_locks_exclude_other_processes_until_closed(mnt, kind):
    path = mnt / "l"
    path.write_bytes(b"x" * 100)

    def other():
        q = multiprocessing.Queue()
        p = multiprocessing.Process(target=_try_lock, args=(path, kind, q))
        p.start()
        p.join()
        return q.get(timeout=5)

    with open(path, "r+b") as f:
        if kind == "flock":
            fcntl.flock(f, fcntl.LOCK_EX)
        else:
            fcntl.lockf(f, fcntl.LOCK_EX, 20, 0)
        assert other() is False
    assert other() is True


# --- the mount itself ---

def test_sigterm_ends_a_mount_in_use_and_keeps_what_was_written(fsmount):
    f = open(fsmount.path / "open", "wb")
    f.write(b"written, not closed" * 1000)
    f.flush()
    start = time.monotonic()
    assert fsmount.stop() == 0
    assert time.monotonic() - start < 10
    with pytest.raises(OSError):
        f.write(b"x" * 10000)
        f.flush()
        os.fsync(f.fileno())
    try:
        f.close()
    except OSError:
        pass
    fsmount.start()
    assert (fsmount.path / "open").read_bytes() == b"written, not closed" * 1000


def test_an_outside_unmount_ends_the_daemon(fsmount):
    (fsmount.path / "f").write_bytes(b"x")
    subprocess.run(["fusermount3", "-u", str(fsmount.path)], check=True)
    assert fsmount._end() == 0
    fsmount.start()
    assert (fsmount.path / "f").read_bytes() == b"x"


@pytest.mark.parametrize("prepare,says", [
    (lambda p: p.rmdir(), "does not exist"),
    (lambda p: (p.rmdir(), p.write_bytes(b"")), "not a directory"),
    (lambda p: (p / "f").write_bytes(b""), "not empty"),
])
def test_a_bad_mount_point_is_one_clear_sentence(fsmount, prepare, says):
    assert fsmount.stop() == 0
    prepare(fsmount.path)
    log = fsmount.home / "log"
    before = log.stat().st_size
    with pytest.raises(AssertionError):
        fsmount.start()
    assert fsmount._end() == 1
    said = log.read_bytes()[before:].decode()
    assert says in said and str(fsmount.path) in said and said.count("\n") == 1
    if fsmount.path.is_dir():
        for f in fsmount.path.iterdir():
            f.unlink()
    else:
        fsmount.path.unlink(missing_ok=True)
        fsmount.path.mkdir()
    fsmount.start()


def test_many_threads_at_once_see_their_own_writes(mnt):
    errors = []

    def work(n):
        try:
            d = mnt / f"t{n}"
            d.mkdir()
            for i in range(100):
                data = bytes([n]) * (i * 137 % 70000 + 1)
                (d / f"{i}.tmp").write_bytes(data)
                os.rename(d / f"{i}.tmp", d / f"{i}")
                assert (d / f"{i}").read_bytes() == data
                if i % 3 == 0:
                    os.unlink(d / f"{i}")
            assert len(os.listdir(d)) == 66
        except Exception as e:  # reported below: a thread's failure must fail the test
            errors.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_an_interrupted_program_dies_and_the_mount_goes_on(mnt):
    p = subprocess.Popen(["sh", "-c", f"while :; do cat /dev/zero | head -c 1000000 > {mnt}/z; done"])
    time.sleep(0.5)
    p.send_signal(signal.SIGKILL)
    p.wait()
    (mnt / "after").write_bytes(b"x")
    assert (mnt / "after").read_bytes() == b"x"
