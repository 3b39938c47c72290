#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""The page as a browser shows it: its content, hostile texts, a service that does not answer, the keyboard, both
colour schemes, a narrow window.

Usage: page_test.py PAGE_SERVER SCREENSHOTS     (SCREENSHOTS: the folder where they go, for a person to look at)
"""
import os
import subprocess
import sys
import unittest

from browser import Browser, Tab, Unavailable

SERVER, SHOTS = sys.argv[1:3]
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
FRESH = "document.body.dataset.fresh === 'yes'"
SIGNED_IN = "document.getElementById('session-text').textContent.startsWith('Signed in as user 1001')"


class Service:
    """page_server.cc, in a process of its own."""

    def __init__(self, port=0):
        self.process = subprocess.Popen([SERVER, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/"

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def do(self, command):
        said = self.ask(command)
        assert said == "ok", f"{command}: {said}"

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


# The least contrast of a text with what is behind it (WCAG 2.1), with the text.
CONTRAST = r"""(() => {
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  let least = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(element.closest('svg') ? style.fill : style.color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least[0]) least = [contrast, `${element.tagName}.${element.className} ${element.textContent}`];
  }
  return least;
})()"""

# What has the focus: its id, else its tag and the heading of the card or plot it is in.
FOCUSED = """(() => {
  const at = document.activeElement;
  const outline = getComputedStyle(at).outlineStyle !== 'none';
  const of = at.closest('li, figure')?.querySelector('h3, figcaption')?.textContent ?? '';
  return [at.id || `${at.tagName.toLowerCase()}${at.className.baseVal ?? at.className ? '.' + at.className : ''} ` +
    (at.tagName === 'SUMMARY' ? at.textContent : of), outline];
})()"""


class Page(unittest.TestCase):
    browser = None  # one for all tests

    def setUp(self):
        self.service = Service()
        self.addCleanup(lambda: self.service.end())

    def open(self, signed_in=False, **how):
        tab = Tab(self.browser, self.service.url + (self.service.ask("link") if signed_in else ""), **how)
        self.addCleanup(tab.close)
        tab.until(FRESH)
        if signed_in:
            tab.until(SIGNED_IN)
        return tab

    def text(self, tab, selector):
        return tab.value(f"document.querySelector({selector!r}).innerText")

    def shot(self, tab, name):
        tab.screenshot(os.path.join(SHOTS, name + ".png"))

    def nothing_is_amiss(self, tab):
        """No exception, no refusal by the page's policy, no request but the page's own."""
        for method in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.assertEqual(tab.said(method), [])
        urls = [said["request"]["url"] for said in tab.said("Network.requestWillBeSent")]
        self.assertGreater(len(urls), 8)
        for url in urls:
            self.assertTrue(url.startswith(self.service.url), url)
        self.assertIsNone(tab.value("window.hacked ?? null"))

    def with_a_past(self):
        """Events of each level, and calls."""
        for number in range(30):
            self.service.do(f"event {(1, 1, 1, 2, 3)[number % 5]} {('scanner', 'null')[number % 2]} run {number}")
        self.service.do("event 2 scanner HOSTILE")
        tab = self.open(signed_in=True)
        tab.until("document.getElementById('events').textContent.includes('run 29')")
        drawn = "document.querySelector('#plots path.series').getAttribute('d').length"
        for _ in range(3):
            before = tab.value(drawn)
            self.service.do("calls 500")
            tab.until(f"{drawn} !== {before}")
        self.service.do("calls 500")
        tab.until("/answered [1-9]/.test(document.querySelector('#plots .legend').textContent)")
        return tab

    def test_state_events_and_plots_are_there(self):
        tab = self.with_a_past()
        self.assertEqual(self.text(tab, "#summary"), "protection full")
        self.assertEqual(tab.value("document.title"), "Bulkhead: full")
        self.assertIn("configuration /etc/bulkhead/bulkhead.toml", self.text(tab, "#instance"))
        scanner = self.text(tab, "#drivers > li")
        for words in ("scanner 1.2", "full", "serving", "generation 3", "4 (good: 3)", "killed"):
            self.assertIn(words, scanner)
        self.assertIn("/srv/uploads", self.text(tab, "#guards"))
        self.assertIn("2 folders", self.text(tab, "#changes"))
        self.assertEqual(self.text(tab, "#counted"), "33 events")
        self.assertIn("run 29", self.text(tab, "#events"))
        self.assertEqual(tab.value("document.querySelectorAll('#timeline .mark').length"), 33)
        # Half of them below 2^4 and the slowest of a hundred below 2^13 times 1.024 us.
        self.assertRegex(self.text(tab, "#plots"), r"half of them 16 µs\s+99 % 8\.4 ms")
        tab.value("(s => { s.value = '2'; s.dispatchEvent(new Event('change')); })(document.getElementById('level'))")
        self.assertEqual(self.text(tab, "#counted"), "6 events")
        tab.value("(s => { s.value = '0'; s.dispatchEvent(new Event('change')); })(document.getElementById('level'))")
        self.nothing_is_amiss(tab)
        for scheme in ("light", "dark"):
            tab.scheme(scheme)
            self.shot(tab, scheme)
            contrast, text = tab.value(CONTRAST)
            self.assertGreaterEqual(contrast, 4.5, f"{scheme}: {text}")
        self.assertNotEqual(tab.value("getComputedStyle(document.body).backgroundColor"), "rgb(246, 247, 249)")

    def test_a_narrow_window_needs_no_scrolling_sideways(self):
        self.service.do("event 3 scanner " + "a-word-that-has-no-end-" * 20)
        tab = self.open(signed_in=True, width=400, height=800)
        tab.until("document.getElementById('events').textContent.includes('a-word-that')")
        self.assertLessEqual(tab.value("document.scrollingElement.scrollWidth"), 400)
        self.shot(tab, "narrow")

    def test_hostile_names_and_texts_are_text(self):
        self.service.do("event 3 scanner HOSTILE")
        self.service.do("protection 1")
        tab = self.open(signed_in=True)
        tab.until("document.getElementById('events').textContent.includes('onerror')")
        for part in ("drivers", "guards", "events", "timeline", "of", "plots", "summary"):
            found = tab.value(f"document.getElementById('{part}').textContent")
            self.assertIn(MARKUP, found, part)
            self.assertNotRegex(found, "[\u202a-\u202e\x1b]", part)
        self.assertEqual(tab.value("document.querySelectorAll('main img, main script, main b').length"), 0)
        self.assertEqual(tab.value("document.title"), "Bulkhead: degraded")
        # And the browser would refuse markup from a string.
        self.assertEqual(tab.value("(() => { try { document.body.innerHTML = '<b>'; return 'taken'; } "
                                   "catch (error) { return error.name; } })()"), "TypeError")
        self.assertIsNone(tab.value("window.hacked ?? null"))
        self.shot(tab, "hostile")

    def test_what_is_audited_is_never_called_full(self):
        self.service.do("audit")
        tab = self.open()
        for of, note in (("#drivers", "Audit: what it denies is recorded"), ("#guards", "Audit: what is denied here is recorded")):
            audited, enforced = tab.value(f"[...document.querySelectorAll('{of} > li')].map(item => item.innerText)")
            self.assertIn("degraded", audited)
            self.assertIn(note, audited)
            self.assertNotIn("Audit", enforced)
        self.assertIn("mode\naudit", self.text(tab, "#drivers > li"))
        self.assertRegex(self.text(tab, "#summary"), "^protection degraded: .*audit")
        self.assertEqual(tab.value("document.title"), "Bulkhead: degraded")

    def is_old(self, tab, why):
        tab.until(f"document.getElementById('silence').textContent.includes('{why}')")
        self.assertEqual(tab.value("document.body.dataset.fresh"), "no")
        self.assertRegex(self.text(tab, "#silence"), r"What is below was true at \d\d:\d\d:\d\d UTC")
        self.assertEqual(self.text(tab, "#summary"), "protection unknown")
        self.assertEqual(tab.value("document.title"), "Bulkhead: no answer")
        self.assertEqual(set(tab.value("[...document.querySelectorAll('.badge')].map(b => b.textContent)")), {"was full"})
        self.assertNotRegex(self.text(tab, "#plots .legend"), r"answered \d")

    def test_a_service_that_is_killed_is_said_not_to_answer_and_its_successor_is_shown(self):
        self.service.do("ready of-the-first")
        tab = self.open()
        tab.until("document.getElementById('events').textContent.includes('of-the-first')")
        self.service.end()
        self.is_old(tab, "The service does not answer (no connection)")
        self.shot(tab, "no-answer")
        self.service = Service(self.service.port)
        self.service.do("ready of-the-second")
        tab.until(f"{FRESH} && document.getElementById('events').textContent.includes('of-the-second')")
        self.assertTrue(tab.value("document.getElementById('silence').hidden"))
        events = self.text(tab, "#events")
        self.assertIn("of-the-second", events)
        self.assertNotIn("of-the-first", events)
        self.assertEqual(self.text(tab, "#counted"), "2 events")

    def test_without_a_session_no_words_of_drivers_are_shown(self):
        self.service.do("event 3 scanner SECRET-OF-A-DRIVER")
        self.service.do("state scanner quarantined")
        tab = self.open()
        tab.until("document.querySelectorAll('#events tr').length === 2")
        self.assertNotIn("SECRET", tab.value("document.body.innerText"))
        self.assertIn("bulkhead sign-in", self.text(tab, "#sign-in-hint"))
        for part in ("#session", "#drivers .actions"):
            self.assertFalse(tab.value(f"document.querySelector({part!r}).checkVisibility()"), part)

    def test_a_link_signs_in_once_and_leaves_no_trace(self):
        self.service.do("event 3 scanner SECRET-OF-A-DRIVER")
        link = self.service.ask("link")
        tab = Tab(self.browser, self.service.url + link)
        self.addCleanup(tab.close)
        tab.until(f"{SIGNED_IN} && document.getElementById('events').textContent.includes('SECRET-OF-A-DRIVER')")
        self.assertIn("for 15 more min", self.text(tab, "#session-text"))
        self.assertIn("user 1001 has signed in", self.text(tab, "#events"))
        self.assertEqual(tab.value("location.href"), self.service.url)
        self.assertEqual(tab.value("document.cookie + localStorage.length + sessionStorage.length"), "00")
        self.nothing_is_amiss(tab)
        self.shot(tab, "signed-in")
        second = Tab(self.browser, self.service.url + link)
        self.addCleanup(second.close)
        second.until(f"{FRESH} && document.getElementById('session-said').textContent.includes('this link was used')")
        self.assertNotIn("SECRET", second.value("document.body.innerText"))
        # Without the page's memory the session is gone.
        tab.call("Page.reload")
        tab.until(f"{FRESH} && document.querySelectorAll('#events tr').length === 3")
        self.assertNotIn("SECRET", tab.value("document.body.innerText"))

    def test_a_link_that_comes_to_an_open_page_signs_it_in(self):
        tab = self.open()
        tab.value(f"location.hash = {self.service.ask('link')!r}")
        tab.until(SIGNED_IN)

    def press_button(self, tab, selector):
        tab.value(f"document.querySelector({selector!r}).focus()")
        tab.press("Enter")

    def session_says(self, tab, text):
        tab.until(f"document.getElementById('session-said').textContent.includes({text!r})")

    def test_a_signed_in_user_releases_and_reloads(self):
        self.service.do("state scanner quarantined")
        tab = self.open(signed_in=True)
        release = "#drivers .actions:not([hidden]) .release"
        tab.until(f"document.querySelectorAll({release!r}).length === 1")
        self.shot(tab, "quarantined")
        self.service.do("fail no space left on device")
        self.press_button(tab, release)
        self.session_says(tab, "release scanner failed: no space left on device")
        self.service.do("fail")
        self.press_button(tab, release)
        self.session_says(tab, "release scanner: done")
        tab.until(f"!document.querySelector({release!r}) && document.querySelector('#drivers dl').textContent.includes('serving')")
        self.press_button(tab, "#reload")
        self.session_says(tab, "reload: done")
        tab.until("document.getElementById('events').textContent.includes('user 1001: reload')")
        self.nothing_is_amiss(tab)

    def test_who_signs_out_or_loses_the_right_sees_no_words_from_then_on(self):
        self.service.do("event 3 scanner SECRET-OF-A-DRIVER")
        words = "document.getElementById('events').textContent.includes('SECRET')"
        for ends in ("out", "lose"):
            tab = self.open(signed_in=True)
            tab.until(words)
            if ends == "lose":
                self.service.do("lose")
            else:
                self.press_button(tab, "#sign-out")
            tab.until(f"{FRESH} && !({words}) && document.querySelectorAll('#events tr').length > 1")
            self.session_says(tab, "Signed out")
            self.assertFalse(tab.value("document.getElementById('session-actions').checkVisibility()"))

    def test_a_service_that_hangs_is_said_not_to_answer(self):
        tab = self.open()
        self.service.do("hang")
        self.is_old(tab, "no answer within 3 s")
        self.service.do("calls 0")
        tab.until(FRESH)

    def test_a_shim_that_is_silent_leaves_a_gap(self):
        tab = self.open()
        self.service.do("silent 5000")
        tab.until("document.querySelector('#drivers .note').textContent.includes('has not answered for 5000 ms')")
        self.assertIn("counters are 5000 ms old", self.text(tab, "#drivers .note"))
        self.assertIn("answered –", self.text(tab, "#plots .legend"))

    def test_the_keyboard_reaches_everything_in_order(self):
        tab = self.open()
        plots = ["Calls that ended, per second", "Denied, let through, overdue, per second",
                 "Time of calls: less than", "Restarts and failed starts",
                 "Protection", "Memory, MiB"]
        details = ["summary What the sandbox lacks", "summary All counters"] * 2
        wanted = (["a.skip ", "pause"] + details + ["of"] + [f"svg {name}" for name in plots] +
                  ["level", "about", "div.scroll "])
        seen = []
        for _ in wanted:
            tab.press("Tab")
            name, outline = tab.value(FOCUSED)
            seen.append(name)
            self.assertTrue(outline, f"{name} has the focus and does not show it")
        self.assertEqual(seen, wanted)

    def test_the_keyboard_reaches_what_a_session_can_do(self):
        tab = self.open(signed_in=True)
        seen = []
        for _ in range(4):
            tab.press("Tab")
            seen.append(tab.value(FOCUSED)[0])
        self.assertEqual(seen, ["a.skip ", "pause", "reload", "sign-out"])

    def test_keys_do_what_a_mouse_does(self):
        tab = self.open()
        tab.value("document.getElementById('pause').focus()")
        tab.press("Enter")
        tab.until("document.body.dataset.fresh === 'paused'")
        self.assertRegex(self.text(tab, "#silence"), r"^Paused\. What is below was true at")
        self.assertEqual(tab.value("document.getElementById('pause').getAttribute('aria-pressed')"), "true")
        tab.press(" ")
        tab.until(FRESH)
        tab.value("document.querySelectorAll('#drivers summary')[1].focus()")
        tab.press("Enter")
        self.assertIn("let through", self.text(tab, "#drivers li"))
        # What is open stays open, and the focus where it is, when new numbers come.
        self.service.do("calls 77")
        tab.until("document.querySelector('#drivers li').textContent.includes('77')")
        self.assertEqual(tab.value(FOCUSED)[0], "summary All counters")
        self.assertTrue(tab.value("document.activeElement.parentElement.open"))
        tab.value("document.querySelector('#plots svg[tabindex]').focus()")
        tab.press("ArrowLeft")
        self.assertRegex(tab.value("document.activeElement.getAttribute('aria-label')"), r"per second at \d\d:\d\d:\d\d: ")
        self.assertEqual(tab.value("document.querySelectorAll('.cursor').length"), 1)
        tab.press("Escape")
        self.assertEqual(tab.value("document.querySelectorAll('.cursor').length"), 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    os.makedirs(SHOTS, exist_ok=True)
    try:
        Page.browser = Browser()
    except Unavailable as why:
        print(f"SKIPPED: {why}")
        sys.exit(77)
    try:
        unittest.main(argv=sys.argv[:1], verbosity=2)
    finally:
        Page.browser.end()
