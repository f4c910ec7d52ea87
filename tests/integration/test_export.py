"""Exports: sealed bundles that open with their key, here and in a second implementation, and in no other way."""
import io
import json
import os
import pathlib
import stat
import tarfile

import pytest

from browser import browser, needs_browser  # noqa: F401
from bundle_reader import example, open_bundle, seal
from cli_fixtures import fails
from conftest import wait_for

KEY_LEN = 64
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c635048f8ff1f00"
    "04a2027f35971c170000000049454e44ae426082")


@pytest.fixture
def filled(client):
    """A mount with a small tree in it."""
    d = client.mnt / "docs"
    (d / "deep" / ("x" * 150)).mkdir(parents=True)
    (d / "a.txt").write_text("a cachet is a seal\n")
    (d / "empty").touch()
    (d / "picture.png").write_bytes(PNG)
    (d / "naïve – ☃.txt").write_text("snow\n")
    (d / "deep" / ("x" * 150) / "big").write_bytes(os.urandom(300_000))
    (d / "a.txt").chmod(0o640)
    os.utime(d / "a.txt", ns=(0, 1_600_000_000_123_456_789))
    (d / "link").symlink_to("a.txt")
    return client


def tree(root):
    """{path: (kind, mode, content)} of all below."""
    out = {}
    for p in sorted(root.rglob("*")):
        name = str(p.relative_to(root))
        if p.is_symlink():
            out[name] = ("link", os.readlink(p))
        elif p.is_dir():
            out[name] = ("dir",)
        else:
            out[name] = ("file", p.stat().st_mode & 0o777, p.stat().st_mtime_ns, p.read_bytes())
    return out


def export(client, *paths, out):
    """Runs `cachet export`; the key, and the file that holds it."""
    text = client.run("export", *(str(client.mnt / p) for p in paths), "-o", str(out)).stdout
    key = next(line.split()[1] for line in text.splitlines() if line.startswith("key "))
    assert len(key) == KEY_LEN
    key_file = out.with_suffix(".key")
    key_file.write_text(key)
    return key, key_file


def test_the_worked_bundle_of_the_page_opens_in_the_second_implementation():
    key, bundle = example("wrap-kek"), example("bundle-header") + example("bundle-chunk")
    assert open_bundle(key, bundle) == (1, b"hello")
    assert seal(key, b"hello", bytes(range(0x40, 0x60)), bytes(range(0xa0, 0xa7))) == bundle


def test_what_is_exported_comes_out_as_it_went_in(filled, home):
    _, key = export(filled, "docs", out=home / "out.cachet")
    filled.run("view", str(home / "out.cachet"), "--key-file", str(key), "--extract", str(home / "got"))
    assert tree(home / "got" / "docs") == tree(filled.mnt / "docs")


def test_another_program_opens_an_export_with_tar_alone_behind_the_cipher(filled, home):
    key, _ = export(filled, "docs", out=home / "out.cachet")
    content, plain = open_bundle(bytes.fromhex(key), (home / "out.cachet").read_bytes())
    assert content == 1
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        archive.extractall(home / "got")
    assert tree(home / "got" / "docs") == {
        name: entry if entry[0] != "file" else (*entry[:2], pytest.approx(entry[2], abs=1000), entry[3])
        for name, entry in tree(filled.mnt / "docs").items()}


def test_view_opens_what_another_program_sealed(client, home):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name in ("plain", "n" * 180, "ünï"):
            t.addfile(tarfile.TarInfo(name), io.BytesIO())
    key = os.urandom(32)
    (home / "theirs").write_bytes(seal(key, archive.getvalue(), os.urandom(32), os.urandom(7)))
    (home / "key").write_text(key.hex())
    r = client.run("view", str(home / "theirs"), "-k", str(home / "key"), "--json")
    assert [e["path"] for e in json.loads(r.stdout)["entries"]] == ["plain", "n" * 180, "ünï"]


def test_the_json_form_is_the_sealed_bytes_in_hexadecimal(filled, home):
    r = json.loads(filled.run("export", str(filled.mnt / "docs" / "a.txt"), "--json").stdout)
    assert r["filename"] == "a.txt.cachet" and "cannot be decrypted" in r["warning"]
    _, plain = open_bundle(bytes.fromhex(r["encryption_key"]), bytes.fromhex(r["encrypted_data"]))
    assert b"a cachet is a seal\n" in plain
    (home / "object").write_text(json.dumps(r))
    (home / "key").write_text(r["encryption_key"])
    r = filled.run("view", str(home / "object"), "-k", str(home / "key"), "--cat", "a.txt")
    assert r.stdout == "a cachet is a seal\n"


def test_view_opens_one_file_that_a_server_sealed(client, home):
    key, content = os.urandom(32), os.urandom(200_000)
    (home / "notes.db.enc").write_bytes(seal(key, content, os.urandom(32), os.urandom(7), content=2))
    (home / "key").write_text(key.hex())
    client.run("view", str(home / "notes.db.enc"), "-k", str(home / "key"), "-x", str(home / "got"))
    assert (home / "got" / "notes.db").read_bytes() == content


def test_nothing_in_an_export_is_in_the_clear(filled, home):
    export(filled, "docs", out=home / "out.cachet")
    filled.run("export", str(filled.mnt / "docs"), "--html", "-o", str(home / "out.html"))
    for name in ("out.cachet", "out.html"):
        data = (home / name).read_bytes()
        for word in ("cachet is a seal", "a.txt", "picture.png", "docs/a", "ustar"):
            assert word.encode() not in data, (name, word)



def test_the_key_is_kept_nowhere(filled, home):
    key, key_file = export(filled, "docs", out=home / "out.cachet")
    key_file.unlink()
    filled.umount()
    for p in home.rglob("*"):
        if p.is_file():
            data = p.read_bytes()
            assert key.encode() not in data and bytes.fromhex(key) not in data, p


@pytest.mark.parametrize("form", ["plain", "html"])
def test_a_changed_cut_or_lengthened_export_gives_one_error_and_no_output(filled, home, form):
    out = home / "out"
    r = filled.run("export", str(filled.mnt / "docs"), "-o", str(out), "--json", *(["--html"] if form == "html" else []))
    (home / "key").write_text(json.loads(r.stdout)["encryption_key"])
    data = out.read_bytes()
    begin, end = 0, len(data)
    if form == "html":
        begin = data.index(b'type="text/plain">') + len(b'type="text/plain">')
        end = data.index(b"<", begin)
    for what in ("first chunk", "last byte", "cut", "cut at a chunk", "longer"):
        chunk_end = begin + ((88 + 65552) * 4 // 3 if form == "html" else 88 + 65552)
        sealed = {"first chunk": data[begin:begin + 300] + b"ZZZZ" + data[begin + 304:end],
                  "last byte": data[begin:end - 4] + (b"AAAA" if data[end - 4:end] != b"AAAA" else b"BBBB"),
                  "cut": data[begin:end - 5000], "cut at a chunk": data[begin:chunk_end // 4 * 4],
                  "longer": data[begin:end] + b"AAAA"}[what]
        out.write_bytes(data[:begin] + sealed + data[end:])
        for action in (["--cat"], ["--extract", str(home / "got")], []):
            sentence = fails(filled, 7, "view", str(out), "-k", str(home / "key"), *action)
            assert "changed or cut off" in sentence, what
        assert not (home / "got").exists(), what


def test_a_wrong_key_opens_nothing(filled, home):
    _, key = export(filled, "docs", out=home / "out.cachet")
    key.write_text("ab" * 32)
    assert "key" in fails(filled, 6, "view", str(home / "out.cachet"), "-k", str(key), "-x", str(home / "got"))
    for text in ("ab" * 31, "zz" * 32, "ab" * 33):
        key.write_text(text)
        fails(filled, 6, "view", str(home / "out.cachet"), "-k", str(key), "-x", str(home / "got"))
    assert not (home / "got").exists()


def hostile(home, *members):
    """A sealed archive of an enemy who knows the key: (file, file of the key)."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(value)
                t.addfile(info, io.BytesIO(value))
            else:
                info.linkname = value
                t.addfile(info)
    key = os.urandom(32)
    (home / "evil").write_bytes(seal(key, archive.getvalue(), os.urandom(32), os.urandom(7)))
    (home / "key").write_text(key.hex())
    return str(home / "evil"), str(home / "key")


@pytest.mark.parametrize("name", ["../escaped", "/tmp/cachet-escaped", "a/../../escaped", "."])
def test_a_path_out_of_the_directory_is_refused_before_anything_is_written(client, home, name):
    evil, key = hostile(home, ("fine", tarfile.REGTYPE, b"x"), (name, tarfile.REGTYPE, b"x"))
    fails(client, 7, "view", evil, "-k", key, "-x", str(home / "got" / "in"))
    assert not (home / "got").exists() and not os.path.exists("/tmp/cachet-escaped")


def test_extracting_follows_no_link_of_the_archive(client, home):
    (home / "outside").mkdir()
    evil, key = hostile(home, ("d", tarfile.SYMTYPE, str(home / "outside")), ("d/f", tarfile.REGTYPE, b"x"))
    fails(client, 1, "view", evil, "-k", key, "-x", str(home / "got"))
    assert not list((home / "outside").iterdir())


def test_extracting_replaces_no_file(filled, home):
    _, key = export(filled, "docs/a.txt", out=home / "out.cachet")
    (home / "got").mkdir()
    (home / "got" / "a.txt").write_text("mine")
    fails(filled, 1, "view", str(home / "out.cachet"), "-k", str(key), "-x", str(home / "got"))
    assert (home / "got" / "a.txt").read_text() == "mine"


def test_names_of_the_archive_cannot_speak_to_the_terminal(client, home):
    evil, key = hostile(home, ("a\x1b[2Jb", tarfile.REGTYPE, b""))
    assert "\x1b" not in client.run("view", evil, "-k", key).stdout


def test_export_fetches_what_is_not_here(filled, server, home):
    server.write("notes", "elsewhere", b"made by another device")
    filled.sync()
    _, key = export(filled, "elsewhere", out=home / "out.cachet")
    assert filled.run("view", str(home / "out.cachet"), "-k", str(key), "--cat").stdout == "made by another device"


def test_without_the_origin_what_is_not_here_ends_the_export(filled, server, home):
    server.write("notes", "elsewhere", b"made by another device")
    filled.sync()
    server.stop()
    filled.run("offline")
    fails(filled, 4, "export", str(filled.mnt), "-o", str(home / "out.cachet"))
    assert not (home / "out.cachet").exists()


def test_an_export_replaces_no_file(filled, home):
    (home / "mine").write_text("mine")
    fails(filled, 2, "export", str(filled.mnt / "docs"), "-o", str(home / "mine"))
    assert (home / "mine").read_text() == "mine"


def test_sockets_and_fifos_are_left_out_and_counted(filled, home):
    os.mkfifo(filled.mnt / "docs" / "fifo")
    os.mknod(filled.mnt / "docs" / "sock", stat.S_IFSOCK | 0o600)
    r = filled.run("export", str(filled.mnt / "docs"), "--json", "--html", "-o", str(home / "out"))
    assert json.loads(r.stdout)["skipped"] == 2


def test_an_unmounted_volume_says_so(filled, home):
    filled.umount()
    assert "mounted" in fails(filled, 2, "export", str(filled.mnt / "docs"), "-o", str(home / "out.cachet"))
    assert not (home / "out.cachet").exists()


def opened_page(client, browser, home):
    r = client.run("export", str(client.mnt / "docs"), "--html", "--json", "-o", str(home / "out.html"))
    return browser.open(f"file://{home}/out.html"), json.loads(r.stdout)["encryption_key"]


def enter(page, key):
    page.run(f"document.getElementById('key').value = {json.dumps(key)}; document.getElementById('open').click()")


@needs_browser
def test_the_page_opens_in_a_browser_with_its_key_and_without_a_network(filled, browser, home):
    page, key = opened_page(filled, browser, home)
    enter(page, key)
    wait_for(lambda: page.run("!document.getElementById('files').hidden"))
    names = page.run("[...document.querySelectorAll('#list tr td:first-child')].map(td => td.textContent)")
    assert sorted(names) == sorted("docs/" + n for n, e in tree(filled.mnt / "docs").items() if e[0] == "file")
    page.run("document.querySelector('[aria-label=\"Show docs/a.txt\"]').click()")
    assert page.run("document.querySelector('#shown pre').textContent") == "a cachet is a seal\n"
    if os.environ.get("CACHET_SCREENSHOT"):
        page.run("scrollTo(0, 0)")
        page.screenshot(pathlib.Path(os.environ["CACHET_SCREENSHOT"]))
    page.run("document.querySelector('[aria-label=\"Show docs/picture.png\"]').click()")
    wait_for(lambda: page.run("document.querySelector('#shown img').naturalWidth") == 1)
    page.run("document.querySelector('[aria-label$=\"big\"][aria-label^=\"Save\"]').click()")
    wanted = next(p for p in (filled.mnt / "docs").rglob("big")).read_bytes()
    wait_for(lambda: (browser.downloads / "big").exists() and (browser.downloads / "big").read_bytes() == wanted)
    assert all(url.startswith(("file:", "blob:")) for url in page.requests()), page.requests()
    assert not page.complaints()


@needs_browser
def test_the_page_with_a_wrong_key_or_a_changed_byte_shows_nothing(filled, browser, home):
    page, key = opened_page(filled, browser, home)
    def refused(word):
        wait_for(lambda: word in page.run("document.getElementById('error').textContent"))
        assert page.run("document.getElementById('files').hidden")
        assert page.run("document.getElementById('list').children.length") == 0

    enter(page, "ab" * 32)
    refused("not the key")
    enter(page, "short")
    refused("64 hexadecimal")
    data = bytearray((home / "out.html").read_bytes())
    at = data.index(b"</script>\n</body>") - 40
    data[at:at + 1] = b"A" if data[at:at + 1] != b"A" else b"B"
    (home / "out.html").write_bytes(data)
    page = browser.open(f"file://{home}/out.html")
    enter(page, key)
    refused("changed or cut off")


@needs_browser
def test_the_page_lets_no_other_script_run_and_nothing_out(filled, browser, home):
    page, _ = opened_page(filled, browser, home)
    page.run("""(() => { window.ran = false;
        const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s);
        const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x'; document.body.append(i); })()""")
    assert page.run("window.ran") is False
    assert page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert len([c for c in page.complaints() if "Content Security Policy" in json.dumps(c)]) >= 3
