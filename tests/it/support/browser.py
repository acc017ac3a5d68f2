"""A browser for the tests: a command in each line of standard input, what came of it in each of
standard output, both as JSON. It ends when its input does, and in any case after three minutes."""

import json
import os
import signal
import sys
import time

from playwright.sync_api import sync_playwright

PATIENCE_SECS = 10


class Browser:
    def __init__(self, playwright, program):
        # Root has no sandbox to put it in; it sees pages of the test's own only.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.browser = playwright.chromium.launch(executable_path=program, args=options)
        self.complaints = []

    def open(self, url, width, scheme):
        context = self.browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_SECS * 1000)
        self.page = context.new_page()
        self.complaints = []
        self.page.on("console", lambda said: self.complaints.append(f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda request: self.watch(url, request.url))
        self.page.goto(url)

    def watch(self, url, asked):
        if not asked.startswith((url, "data:")):
            self.complaints.append(f"outside: {asked}")

    # Playwright's own wait would build code of text, which the page's policy forbids.
    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_SECS
        while not self.page.evaluate(condition):
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited in vain: {condition}\n{self.page.inner_text('body')[:4000]}")
            self.page.wait_for_timeout(30)

    def value(self, expression):
        return self.page.evaluate(expression)

    def click(self, selector):
        self.page.click(selector)

    def fill(self, selector, text):
        self.page.fill(selector, text)

    def press(self, keys):
        for key in keys:
            self.page.keyboard.press(key)

    def shot(self, path):
        self.page.screenshot(path=path, full_page=True)

    def complaints_so_far(self):
        return self.complaints


def main():
    signal.alarm(180)
    with sync_playwright() as playwright:
        browser = Browser(playwright, sys.argv[1])
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            try:
                said = {"value": getattr(browser, name)(*arguments)}
            except Exception as error:
                said = {"error": str(error)}
            print(json.dumps(said), flush=True)
        browser.browser.close()


main()
