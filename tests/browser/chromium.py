"""Chromium, and the page in it: what a person does there, and what a person would see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Locator, Page, Response, sync_playwright

from etc.lab import netns

PROGRAM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",  # which root has not
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
PATIENCE_MS = 30_000
"""On a machine that has other things to do."""


@contextmanager
def chromium(namespace: str | None = None, *, program: str = PROGRAM) -> Iterator[Browser]:
    """A browser, in a network namespace: what is started stays where the thread was that has started it."""
    with nullcontext() if namespace is None else netns.inside(namespace):
        playwright = sync_playwright().start()
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS), timeout=PATIENCE_MS)
        except Error:
            playwright.stop()
            raise
    try:
        yield browser
        browser.close()
    finally:
        playwright.stop()


def idle(directory: Path) -> str:
    """A Chromium that has only what time nobody else wants, as if it had a machine of its own. It is made in a
    directory.
    """
    program = directory / "idle-chromium"
    # a group of its own (sched(7), autogroup), which else had as much as each of the others
    program.write_text(f'#!/bin/sh\necho 19 >/proc/self/autogroup\nexec chrt --idle 0 {PROGRAM} "$@"\n')
    program.chmod(0o755)
    return str(program)


class Web:
    """A tab of its own, with a storage of its own. `noise`: what the page complained of, scripts and policy alike."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": DESKTOP, **options})
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.noise: list[str] = []
        self.asked: list[tuple[int, str]] = []
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self._hear("error", str(error)))
        self.page.on("dialog", lambda dialog: self._hear("dialog", dialog.message) or dialog.dismiss())
        self.page.on("response", self._answered)

    def _hear(self, kind: str, text: str) -> None:
        # Chromium tells of every refusal; which of them a page may draw upon itself, a test says by `asked`
        if kind in ("error", "warning", "dialog") and "Failed to load resource" not in text:
            self.noise.append(f"{kind}: {text}")

    def _answered(self, response: Response) -> None:
        self.asked.append((response.status, response.url.removeprefix(self.url)))

    def close(self) -> None:
        self.context.close()

    def log_in(self, token: str) -> None:
        self.page.goto(self.url)
        self.page.fill("input[name=token]", token)
        self.page.click("button:has-text('Log in')")

    def enter(self, token: str) -> None:
        """Logs in, and waits for the picture."""
        self.log_in(token)
        self.page.wait_for_selector(".canvas[data-drawn]")

    def find(self, text: str) -> None:
        """By what is typed and the first that is offered."""
        self.page.fill("input[name=search]", text)
        self.page.wait_for_selector(".found [role=option]")
        self.page.keyboard.press("Enter")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    @property
    def panel(self) -> Locator:
        return self.page.locator(".panel .content")

    def section(self, name: str) -> Locator:
        return self.panel.locator("section", has=self.page.locator(f"h3:has-text('{name}')"))

    def wider_than_its_window(self) -> int:
        """By how many pixels."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))
