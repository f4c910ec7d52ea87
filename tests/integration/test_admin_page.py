"""The administration page in a real browser: what it does at the server, and that nothing in it runs but its own script."""
import http.client
import json
import os
import pathlib
import sqlite3

import pytest

from browser import browser, needs_browser  # noqa: F401
from conftest import wait_for
from enrolment import Device
from server_fixtures import Server

pytestmark = needs_browser
HOSTILE = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>\u202e&amp;\u2028"


@pytest.fixture
def server(home):
    s = Server(home)
    s.admin_token = s.new_token("--admin", account="root")
    s.start()
    yield s
    s.close()


class Page:
    """The page as a person uses it: fields are filled, buttons found by their words and pressed."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server
        browser.open(f"http://127.0.0.1:{server.port}/admin")

    def run(self, expression):
        return self.browser.run(expression)

    def text(self):
        return self.run("document.body.innerText")

    def wait(self, text):
        wait_for(lambda: text in self.text())

    def login(self, token):
        self.run(f"document.getElementById('token').value = {json.dumps(token)}")
        self.press("Log in")

    def press(self, words, within="document", nth=0):
        """A real press of the mouse, on the button that is seen there."""
        # What is pressed has to be there and to stand still.
        wait_for(lambda: self.run(f"(() => {{ const all = [...{within}.querySelectorAll('button')]"
                                  f".filter(b => b.textContent === {json.dumps(words)} && b.offsetParent);"
                                  f"window.pressed = all[{nth}]; return !!pressed; }})()"))
        self.run("pressed.scrollIntoView({block: 'center', inline: 'center'})")
        x, y = self.run("(() => { const r = pressed.getBoundingClientRect();"
                        "return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name, code, text=""):
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, text=text)

    def tab_to(self, words):
        """Tab by tab to the button of these words, as who has no mouse."""
        for _ in range(60):
            if self.run("document.activeElement.textContent") == words:
                return
            self.key("Tab", 9)
        raise AssertionError(f"no tab leads to {words}")

    def section(self, name):
        self.press(name, "document.getElementById('tabs')")
        wait_for(lambda: self.run("(document.querySelector('#main h2') || {}).textContent") == name)

    def dialog(self, words):
        wait_for(lambda: self.run("document.getElementById('dialog').open"))
        self.press(words, "document.getElementById('dialog')")

    def fill(self, name, value):
        self.run(f"document.querySelector('#dialog [name={name}]').value = {json.dumps(value)}")

    def shot(self, name):
        where = os.environ.get("CACHET_SCREENSHOTS")
        if where:
            self.browser.screenshot(pathlib.Path(where) / f"admin-{name}.png")


@pytest.fixture
def page(browser, server):
    p = Page(browser, server)
    yield p
    assert p.run("document.title") == "cachet administration"
    assert browser.process.poll() is None


@pytest.fixture
def inside(page):
    page.login(page.server.admin_token)
    page.wait("Devices")
    return page


def enrolled(server, name):
    d = Device(server.client())
    d.enrol(name=name)
    return d


def admin(server):
    return server.client(server.admin_token)


def test_only_an_admin_token_logs_in_and_it_is_kept_nowhere(page):
    for token, answer in ((page.server.new_token(), "This is not an admin token."),
                          ("cachet_" + "0" * 64, "The server does not know this token."),
                          ("\u2603", "The server does not know this token.")):
        page.login(token)
        page.wait(answer)
        assert page.run("document.getElementById('app').hidden")
    page.shot("wrong")
    page.login(page.server.admin_token)
    page.wait("Log out")
    kept = page.run("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href, history.length])"
                    " + document.documentElement.outerHTML + document.getElementById('token').value")
    assert page.server.admin_token not in kept
    page.browser.call("Page.reload")
    wait_for(lambda: page.run("document.readyState") == "complete"
             and page.run("document.getElementById('app').hidden") is True)


def test_a_device_is_revoked_with_its_token(inside):
    d = enrolled(inside.server, "ward laptop")
    inside.section("Stores")
    inside.section("Devices")
    inside.wait("ward laptop")
    inside.shot("devices")
    inside.press("Revoke")
    wait_for(lambda: inside.run("!!document.querySelector('#dialog [name=token]')"))
    inside.shot("revoke")
    inside.run("document.querySelector('#dialog [name=token]').click()")
    inside.dialog("Revoke")
    inside.wait("The device is revoked.")
    assert d.call("GET", "/v1").status == 401
    listed = admin(inside.server).call("GET", "/v1/devices").json["devices"]
    assert [x["state"] for x in listed if x["dkid"] == d.dkid] == ["revoked"]


def test_it_is_used_without_a_mouse(page):
    enrolled(page.server, "ward laptop")
    page.browser.call("Input.insertText", text=page.server.admin_token)  # the field has the focus
    page.key("Enter", 13, "\r")
    page.wait("ward laptop")
    page.tab_to("Revoke")
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.shot("keyboard")
    page.key("Enter", 13, "\r")
    wait_for(lambda: page.run("document.getElementById('dialog').open"))
    page.key("Escape", 27)
    wait_for(lambda: not page.run("document.getElementById('dialog').open"))
    page.tab_to("Tokens")
    page.key("Enter", 13, "\r")
    wait_for(lambda: page.run("(document.querySelector('#main h2') || {}).textContent") == "Tokens")
    assert admin(page.server).call("GET", "/v1/devices").json["devices"][0]["state"] == "ok"


def test_logging_out_leaves_nothing(inside):
    enrolled(inside.server, "ward laptop")
    inside.section("Stores")
    inside.section("Devices")
    inside.wait("ward laptop")
    inside.press("Log out")
    wait_for(lambda: inside.run("document.getElementById('app').hidden"))
    assert inside.server.admin_token not in inside.run("document.documentElement.outerHTML + document.getElementById('token').value")
    assert "ward laptop" not in inside.run("document.documentElement.outerHTML")
    before = len(inside.browser.requests())
    inside.browser.call("Page.reload")
    wait_for(lambda: inside.run("document.readyState") == "complete" and inside.run("document.getElementById('app').hidden") is True)
    assert not any("/v1/" in str(r) for r in inside.browser.requests()[before:])


def test_another_site_can_do_nothing_in_an_administrators_name(inside, tmp_path):
    """The page is open with its token; another origin in the same browser sends forms and requests, with and without a token."""
    d = enrolled(inside.server, "ward laptop")
    there, path = f"http://127.0.0.1:{inside.server.port}", f"/v1/devices/{d.dkid}/revoke"
    other = tmp_path / "evil.html"
    other.write_text("<title>evil</title>")
    inside.browser.open(other.as_uri())
    for options in ("{method: 'POST', mode: 'no-cors', credentials: 'include', body: '{}'}",
                    "{method: 'POST', credentials: 'include', headers: {'Authorization': 'Bearer %s'}, body: '{}'}" % inside.server.admin_token):
        inside.run(f"window.done = 0; fetch('{there}{path}', {options}).then(r => done = r.type, e => done = 'refused'); 0")
        wait_for(lambda: inside.run("done"))
        assert inside.run("done") in ("opaque", "refused")
    c = admin(inside.server)
    assert c.call("GET", "/v1/devices").json["devices"][0]["state"] == "ok"
    a = c.call("OPTIONS", path, headers={"Origin": "null", "Access-Control-Request-Method": "POST"})
    assert not [h for h in a.headers if h.lower().startswith("access-control")]
    inside.browser.open(there + "/admin")


def test_a_dialog_that_is_cancelled_changes_nothing(inside):
    d = enrolled(inside.server, "kept")
    inside.section("Stores")
    inside.section("Devices")
    inside.press("Revoke")
    inside.dialog("Cancel")
    assert d.call("GET", "/v1").json["device"]["state"] == "ok"


def test_a_device_is_distrusted_and_rotated(inside):
    d = enrolled(inside.server, "kiosk")
    d.call("POST", f"/v1/devices/{d.dkid}/kek", {"nonce": "A" * 22 + "=="})
    before = d.call("GET", "/v1").json["device"]["kid"]
    inside.section("Stores")
    inside.section("Devices")
    # What is said goes away by itself, so a slow machine may not see it; buttons are new with each answer.
    inside.press("Distrust")
    inside.wait("untrusted")
    assert d.call("GET", "/v1").json["device"]["state"] == "untrusted"
    inside.press("Trust")
    inside.wait("Distrust")
    assert d.call("GET", "/v1").json["device"]["state"] == "ok"
    inside.press("New key")
    wait_for(lambda: d.call("GET", "/v1").json["device"]["kid"] != before)


def test_a_token_is_made_shown_once_and_revoked(inside):
    inside.section("Tokens")
    inside.press("New token")
    wait_for(lambda: inside.run("document.getElementById('dialog').open"))
    inside.fill("account", "bert")
    inside.fill("days", "30")
    inside.run("document.querySelector('#dialog [name=\"store main\"]').click()")
    inside.run("document.querySelector('#dialog [name=readOnly]').click()")
    inside.shot("new-token")
    inside.dialog("Make")
    made = wait_for(lambda: inside.run("(document.querySelector('#dialog input.secret') || {}).value"))
    inside.shot("token")
    c = inside.server.client(made)
    stores = c.call("GET", "/v1/stores").json["stores"]
    assert [(s["id"], s["mode"]) for s in stores] == [("main", "ro")]
    inside.dialog("Done")
    inside.wait("bert")
    inside.shot("tokens")
    assert made not in inside.run("document.documentElement.outerHTML")
    inside.press("Revoke")  # the newest is the first
    inside.dialog("Revoke")
    inside.wait("is revoked.")
    assert c.call("GET", "/v1/stores").status == 401


def test_a_store_is_given_to_an_account(inside):
    other = inside.server.client(inside.server.new_token(account="other"))
    assert other.call("GET", "/v1/stores").json["stores"]
    inside.section("Stores")
    inside.shot("stores")
    inside.press("Give to\u2026")
    wait_for(lambda: inside.run("document.getElementById('dialog').open"))
    inside.fill("account", "tester")
    inside.dialog("Give")
    inside.wait("opens the store now.")
    assert other.call("GET", "/v1/stores").json["stores"] == []
    assert [s["id"] for s in inside.server.client().call("GET", "/v1/stores").json["stores"]] == ["main"]


def test_keys_of_all_devices_are_rotated(inside):
    d = enrolled(inside.server, "one")
    d.call("POST", f"/v1/devices/{d.dkid}/kek", {"nonce": "A" * 22 + "=="})
    before = d.call("GET", "/v1").json["device"]["kid"]
    inside.section("Keys")
    inside.press("New keys for all")
    inside.dialog("Rotate")
    inside.wait("1 devices get a new key.")
    assert d.call("GET", "/v1").json["device"]["kid"] != before


def test_the_audit_chain_is_verified_in_the_page(inside):
    inside.server.admin("account", "close", "tester", str(inside.server.dir))
    log = admin(inside.server).call("GET", "/v1/audit").json["entries"]
    inside.section("Audit")
    inside.press("Verify")
    inside.wait(f"{len(log)} entries, the chain is whole")
    inside.shot("audit")
    assert f"{log[-1]['n']}:{log[-1]['hash']}" in inside.text()
    inside.run(f"document.getElementById('noted').value = '1:{'0' * 64}'")
    inside.press("Verify")
    inside.wait("the log was rewritten")


def test_the_chain_is_verified_from_the_archive_on(inside, tmp_path):
    head = admin(inside.server).call("GET", "/v1/audit").json["entries"][-1]
    inside.server.admin("audit", "--archive", str(tmp_path / "old"), "--older-than", "0s", str(inside.server.dir))
    inside.server.admin("account", "close", "tester", str(inside.server.dir))
    inside.section("Audit")
    inside.press("Verify")
    inside.wait("2 entries, the chain is whole")
    for noted, word in ((f"{head['n']}:{head['hash']}", "the chain is whole"), (f"1:{'0' * 64}", "is in an archive"),
                        (f"{head['n']}:{'0' * 64}", "the log was rewritten")):
        inside.run(f"document.getElementById('noted').value = '{noted}'; document.getElementById('verified').textContent = ''")
        inside.press("Verify")
        inside.wait(word)


def test_an_audit_entry_that_was_changed_is_named(page):
    page.server.stop()
    with sqlite3.connect(page.server.dir / "records.db") as db:
        changed = db.execute("SELECT n FROM audit ORDER BY n LIMIT 1 OFFSET 1").fetchone()[0]
        db.execute("UPDATE audit SET subject = 'another' WHERE n = ?", (changed,))
    db.close()
    page.server.start()
    page.login(page.server.admin_token)
    page.wait("Log out")
    page.section("Audit")
    page.press("Verify")
    page.wait(f"The log was changed at entry {changed}.")


def test_hostile_names_are_text(inside):
    enrolled(inside.server, HOSTILE)
    inside.server.new_token(account=HOSTILE)
    for section in ("Stores", "Devices", "Tokens", "Keys", "Audit"):
        inside.section(section)
        if section == "Stores":
            continue
        inside.wait("<img src=x onerror=document.title='taken'><script>")
        inside.wait("\\u{202e}&amp;\\u{2028}")
        inside.shot(f"hostile-{section}")
        assert inside.run("document.querySelectorAll('#main img, #main script').length") == 0
    inside.section("Devices")
    inside.press("Revoke")
    inside.wait("Revoke <img src=x")
    assert inside.run("document.title") == "cachet administration"


def test_a_token_that_is_revoked_meanwhile_ends_the_session(inside):
    number = max(t["id"] for t in admin(inside.server).call("GET", "/v1/admin/tokens").json["tokens"] if t["admin"])
    inside.server.admin("token", "revoke", str(number), str(inside.server.dir))
    inside.press("Tokens")
    inside.wait("The token is not valid any more.")
    assert inside.run("document.getElementById('main').childElementCount") == 0


def test_the_policy_lets_nothing_run_but_the_pages_own(inside):
    """Script that got in by whatever way does not run, and nothing is asked of another host."""
    for attempt in ("const s = document.createElement('script'); s.append('document.title = 1'); document.body.append(s)",
                    "const b = document.createElement('button'); b.setAttribute('onclick', 'document.title = 1'); b.click()",
                    "document.body.innerHTML = '<p>x'; document.title = 1",
                    "document.write('x'); document.title = 1", "location = 'javascript:document.title = 1'"):
        inside.run(f"(() => {{ try {{ {attempt} }} catch {{}} }})()")
    assert inside.run("fetch('http://localhost:1/').then(() => 'sent', e => e.name)") == "TypeError"
    assert any("Content Security Policy" in json.dumps(c) for c in inside.browser.complaints())
    own = f"http://127.0.0.1:{inside.server.port}/"
    for section in ("Stores", "Tokens", "Keys", "Audit", "Jobs"):
        inside.section(section)
    assert all(u.startswith((own, "data:")) for u in inside.browser.requests() if "localhost:1/" not in u)


def test_the_page_complains_of_nothing(inside):
    for section in ("Stores", "Tokens", "Keys", "Audit", "Jobs", "Devices"):
        inside.section(section)
    inside.shot("empty")
    assert inside.browser.complaints() == []


def test_it_fits_a_telephone_and_the_dark(inside):
    enrolled(inside.server, "a name that is rather long, as people write them")
    inside.browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=2, mobile=True)
    inside.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    for section in ("Stores", "Devices", "Tokens", "Keys", "Audit", "Jobs"):
        inside.section(section)
        inside.shot(f"narrow-{section}")
        assert inside.run("document.documentElement.scrollWidth <= innerWidth"), section
    inside.browser.call("Emulation.clearDeviceMetricsOverride")
    inside.section("Devices")
    inside.shot("dark")


def test_the_page_is_sent_to_everybody_with_its_headers_and_nothing_of_the_server(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port)
    c.request("GET", "/admin")
    r = c.getresponse()
    body = r.read()
    assert r.status == 200 and r.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(d.split(" ", 1) for d in r.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"].startswith("'sha256-") and "unsafe" not in r.headers["Content-Security-Policy"]
    assert r.headers["X-Frame-Options"] == "DENY" and r.headers["X-Content-Type-Options"] == "nosniff"
    assert b"main" in body and server.token.encode() not in body
    for method, expected in (("HEAD", 200), ("POST", 401), ("DELETE", 401)):
        c.request(method, "/admin")
        r = c.getresponse()
        r.read()
        assert r.status == expected
    c.request("POST", "/admin", headers={"Authorization": "Bearer " + server.token})
    r = c.getresponse()
    r.read()
    assert r.status == 405 and r.headers["Allow"] == "OPTIONS, GET, HEAD"
    c.close()
