"""Every curl of docs/protocol.md, run as it stands there, from top to bottom, against a fresh server."""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from openapi import Spec
from server_fixtures import ROOT, command

PAGE = (ROOT / "docs" / "protocol.md").read_text()
# Says of each call what it was and what came of it; its answer is shown as curl would.
CURL = r"""
curl() {
	n=$((n + 1))
	command curl -sS -o body -w '%{method} %{url_effective} %{http_code}\n' "$@" >> calls
	cp body answer.$(wc -l < calls)
	cat body
}
"""


def blocks():
    """[(language, text)] of the fenced blocks."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)


def documents(text):
    """The JSON values of a text, one behind the other; what stands before the first is a header."""
    start, out, decoder = re.search(r"^[{\[]", text, re.M), [], json.JSONDecoder()
    at = start.start() if start else len(text)
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        out.append(value)
        at += len(text[at:]) - len(text[at:].lstrip())
    return out


def unlike(said, given, where="answer"):
    """Where an answer has not the shape of the one on the page; null and a value are alike."""
    if isinstance(said, dict) and isinstance(given, dict):
        if set(said) != set(given):
            return [f"{where}: {sorted(set(said) ^ set(given))}"]
        return [u for k in said for u in unlike(said[k], given[k], f"{where}.{k}")]
    if isinstance(said, list) and isinstance(given, list):
        return min((unlike(said[0], g, where + "[]") for g in given), key=len) if said and given else []
    if said is not None and given is not None and type(said) is not type(given):
        return [f"{where}: {given!r}"]
    return []


class Session:
    """A shell, the names that stand on the page, and those that this server gave instead."""

    def __init__(self, home):
        self.home, self.names = home, {}
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (home / "bin").mkdir()
        (home / "bin" / "cachet").symlink_to(command()[0])
        (home / "scan.png").write_bytes(b"a picture")
        self.shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      start_new_session=True, cwd=home, env={**os.environ, "PATH": f"{home}/bin:{os.environ['PATH']}", "HOME": str(home)})
        self.run("set -u; n=0" + CURL)

    def run(self, text):
        self.shell.stdin.write(text + "\necho; echo END-OF-BLOCK $?\n")
        self.shell.stdin.flush()
        out = ""
        for line in self.shell.stdout:
            if line.startswith("END-OF-BLOCK"):
                assert line.split()[1] == "0", out
                return out
            out += line
        raise AssertionError(out)

    def calls(self):
        return [line.split() for line in (self.home / "calls").read_text().splitlines()] if (self.home / "calls").exists() else []

    def answer(self, i):
        return (self.home / f"answer.{i + 1}").read_text(errors="surrogateescape")

    def as_here(self, text):
        text = text.replace("DIR --listen", f"DIR --jobs {self.home}/jobs.json --listen").replace("8089", str(self.port))
        for name, here in self.names.items():
            text = text.replace(name, here)
        return re.sub(r"\bDIR\b", f"{self.home}/data", text)

    def learn(self, said, given):
        """Names that the page has another value for."""
        if isinstance(said, dict):
            for k in said:
                self.learn(said[k], given[k])
                if k in ("dkid", "job_id"):
                    self.names[said[k]] = given[k]
                elif k == "etag":
                    self.names[said[k].split("-")[1].strip('"')] = given[k].split("-")[1].strip('"')


def curls(text):
    """[(the status it says or None for any success, whether its answer is shown behind the block)] of a block's curls."""
    out = []
    for lines in re.split(r"^(?=curl )", text, flags=re.M)[1:]:
        comment = re.search(r"\s# .*", lines)
        status = comment and re.search(r"\b[2345]\d\d\b", comment[0])
        out.append((int(status[0]) if status else None, not comment))
    return out


@pytest.fixture
def session(tmp_path):
    types = next(text for language, text in blocks() if language == "json" and text.startswith('{"jobs": {"ocr"'))
    types = json.loads(types)
    types["jobs"]["ocr"]["command"] = ["/bin/cat"]
    (tmp_path / "jobs.json").write_text(json.dumps(types))
    s = Session(tmp_path)
    yield s
    os.killpg(s.shell.pid, signal.SIGTERM)  # the server, too
    s.shell.wait(30)


def wait_until_served(session):
    end = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", session.port)):
        assert time.monotonic() < end
        time.sleep(0.02)


def check_block(session, text, answers):
    before, said_to = len(session.calls()), curls(text)
    if "/result" in text:
        session.run('until command curl -s -H "$AUTH" $URL/v1/jobs | grep -q done; do sleep 0.05; done')
    session.run(session.as_here(text))
    calls = session.calls()[before:]
    assert len(calls) == len(said_to), (text, calls)
    wanted, shown = [status for status, _ in said_to], re.match(r"HTTP/1.1 (\d+)", answers or "")
    if shown:
        wanted[-1] = int(shown[1])
    for (method, url, status), want in zip(calls, wanted):
        assert int(status) == want if want else status[0] == "2", (method, url, status, want)
    said = documents(answers or "") if calls else []
    given = [documents(session.answer(before + i)) for i, (_, is_shown) in enumerate(said_to) if is_shown] if said else []
    assert len(given) == len(said) and all(given), (text, given)
    for s, (g, *_) in zip(said, given):
        assert unlike(s, g) == [], text
        session.learn(s, g)


def test_each_curl_of_the_page_does_what_it_says(session):
    page = blocks()
    for i, (language, text) in enumerate(page):
        if language != "sh":
            continue
        answers = page[i + 1][1] if i + 1 < len(page) and page[i + 1][0] in ("json", "") else None
        if "encrypted_data" in (answers or ""):
            text, answers = text + "cp notes.db.enc answer.$(wc -l < calls)\n", answers.replace("…", "")
        if "--key-file KEY" in text:
            key = json.loads((session.home / "notes.db.enc").read_text())["encryption_key"]
            (session.home / "KEY").write_text(key)
        check_block(session, text, answers)
        if "cachet serve DIR" in text:
            wait_until_served(session)
    assert (session.home / "notes.db").read_bytes().startswith(b"SQLite format 3")
    left = {(o.method, o.path) for o in Spec().operations}
    for method, url, _ in session.calls():
        path = url.split("/", 3)[3].split("?")[0]
        left = {(m, p) for m, p in left if m != method or not re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p[1:]), path)}
    assert left == set(), "calls without a curl on the page"
