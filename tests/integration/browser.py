"""A real browser without a window: Chromium, driven by its DevTools protocol over a pipe."""
import base64
import json
import os
import shutil
import subprocess

import pytest

from conftest import wait_for

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs the package chromium")


class Browser:
    """One page. `events` holds what the browser said of its own accord."""

    def __init__(self, home):
        self.downloads = home / "downloads"
        self.downloads.mkdir()
        self.events = []
        self.last_id = 0
        self.pending = b""
        there, self.commands = os.pipe()
        self.answers, back = os.pipe()
        # The browser expects them as descriptors 3 and 4.
        script = f"exec 3<&{there} 4>&{back}; exec \"$@\""
        with open(home / "browser.log", "wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script, "chromium", CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
                 "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={home}/profile"],
                pass_fds=(there, back), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(there)
        os.close(back)
        self.session = None

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.commands)
            os.close(self.answers)

    def message(self):
        while b"\0" not in self.pending:
            data = os.read(self.answers, 1 << 16)
            assert data, "the browser ended"
            self.pending += data
        text, _, self.pending = self.pending.partition(b"\0")
        return json.loads(text)

    def call(self, method, **params):
        self.last_id += 1
        request = {"id": self.last_id, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.commands, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.last_id:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        wait_for(lambda: self.run("document.readyState") == "complete")
        return self

    def run(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in r, r
        return r["result"].get("value")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def requests(self):
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def complaints(self):
        return [e["params"] for e in self.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]


@pytest.fixture
def browser(home):
    b = Browser(home)
    yield b
    b.close()
