# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over its DevTools protocol through a pair of pipes: it opens no port."""
import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time

ANSWER_SECONDS_MAX = 60
PROGRAMS = ("chromium-headless-shell", "chromium")


class Unavailable(Exception):
    """This machine has no such browser."""


class Browser:
    """One process group, which end() ends; its profile is a temporary folder."""

    def __init__(self):
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise Unavailable(f"there is no {' or '.join(PROGRAMS)} (package {PROGRAMS[0]})")
        self.folder = tempfile.mkdtemp(prefix="bulkhead-page-")
        words = [program, "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-breakpad",
                 "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={self.folder}"]
        if os.geteuid() == 0:
            words.append("--no-sandbox")  # it refuses to run as root; it shows only this tree's page
        from_us, self.commands = os.pipe()
        self.messages, to_us = os.pipe()
        # The browser has them as 3 and 4, which may be these very ends: out of the way first.
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (from_us, to_us))
        log = os.open(os.path.join(self.folder, "log"), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self.process = os.posix_spawn(
            program, words, {**os.environ, "HOME": self.folder}, setpgroup=0,
            file_actions=[(os.POSIX_SPAWN_DUP2, reads, 3), (os.POSIX_SPAWN_DUP2, writes, 4),
                          (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)])
        for end in (from_us, to_us, reads, writes, log):
            os.close(end)
        self.buffer = b""
        self.number = 0
        self.events = []

    def end(self):
        """Ends each of its processes."""
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError):
            pass
        try:
            os.killpg(self.process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.process, 0)
        os.close(self.commands)
        os.close(self.messages)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _message(self, until):
        while b"\0" not in self.buffer:
            if not select.select([self.messages], [], [], max(0, until - time.monotonic()))[0]:
                raise RuntimeError("the browser does not answer")
            chunk = os.read(self.messages, 1 << 16)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        """The result of a command; what else the browser says meanwhile goes to self.events."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            message = self._message(until)
            if message.get("id") != self.number:
                self.events.append(message)
                continue
            if "error" in message:
                raise RuntimeError(f"{method}: {message['error']}")
            return message["result"]


class Tab:
    """A page that is open, as wide and high as given in pixels of CSS."""

    def __init__(self, browser, url, width=1280, height=900, scheme="light"):
        self.browser = browser
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=False)
        self.scheme(scheme)
        self.call("Page.navigate", url=url)

    def call(self, method, **parameters):
        return self.browser.call(method, session=self.session, **parameters)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def scheme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def value(self, expression):
        """Of an expression, or of what a promise comes to."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            why = done["exceptionDetails"].get("exception", {}).get("description", done["exceptionDetails"]["text"])
            raise AssertionError(f"{expression.strip()}\n{why}")
        return done["result"].get("value")

    def until(self, condition):
        """Returns when the condition holds: it is looked at after each change of the document."""
        self.value("""new Promise((resolve, reject) => {
          const look = () => { if (document.readyState !== 'loading' && (%s)) { observer.disconnect(); resolve(true); } };
          const observer = new MutationObserver(look);
          observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
          document.addEventListener('DOMContentLoaded', look);
          setTimeout(() => reject(new Error('it never holds; the page says: ' + document.title + ' ' +
            document.body.dataset.fresh + ' ' + document.getElementById('silence').textContent)), 50000);
          look();
        })""" % condition)

    def press(self, key, modifiers=0):
        code = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39,
                "ArrowDown": 40}[key]
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        names = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code,
                 "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **names, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    def said(self, method):
        """The parameters of this tab's events of a kind."""
        self.value("0")  # what came before it is there
        return [event["params"] for event in self.browser.events
                if event.get("sessionId") == self.session and event["method"] == method]

    def screenshot(self, path):
        """Of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
