"""A real Chromium, driven by Debian's chromedriver over the WebDriver protocol (W3C, 2018)."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="a browser is missing: apt-get install chromium chromium-driver",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # W3C WebDriver, "Elements"
_LIMIT_S = 60


class Page:
    """What a browser shows."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self._session = f"/session/{session}"

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Sends a command of the protocol; gives its value."""
        content = body if method == "POST" else None
        answer = self._client.request(method, f"{self._session}{path}", json=content).json()
        value = answer["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, url: str) -> None:
        """Opens a page and waits until it is loaded."""
        self.call("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs JavaScript; gives what it returns."""
        return self.call("POST", "/execute/sync", script=script, args=list(arguments))

    def text(self, selector: str) -> str:
        """The text of an element as it is in the document."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def idle(self, selector: str) -> bool:
        """Whether a button can be pressed."""
        script = "return !document.querySelector(arguments[0]).disabled"
        return bool(self.run(script, selector))

    def type(self, selector: str, text: str) -> None:
        """Types into an element, as a user does, in place of what is in it."""
        element = self._element(selector)
        self.call("POST", f"/element/{element}/clear")
        self.call("POST", f"/element/{element}/value", text=text)

    def click(self, selector: str) -> None:
        """Clicks an element, as a user does."""
        self.call("POST", f"/element/{self._element(selector)}/click")

    def wait(self, condition: Callable[[], Any]) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + _LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, self.text("body")
            time.sleep(0.05)

    def screenshot(self, path: Path) -> None:
        """Writes what is shown as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """What the browser wrote to its console since it was last asked."""
        return [each["message"] for each in self.call("POST", "/se/log", type="browser")]

    def _element(self, selector: str) -> str:
        found = self.call("POST", "/element", using="css selector", value=selector)
        return str(found[_ELEMENT])


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A headless Chromium with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert driver.stdout is not None
            port = next(
                line.split()[-1].rstrip(".")
                for line in driver.stdout
                if "started successfully" in line
            )
            # Without its sandbox, which root and most containers cannot make: it opens our page
            # only.
            options = ["headless=new", "no-sandbox", "disable-dev-shm-usage"]
            wanted = {
                "goog:chromeOptions": {
                    "binary": shutil.which("chromium"),
                    "args": [*options, "window-size=900,1200", f"user-data-dir={profile}"],
                },
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_LIMIT_S) as client:
                made = client.post(
                    "/session", json={"capabilities": {"alwaysMatch": wanted}}
                ).json()
                assert "error" not in made["value"], made
                session = made["value"]["sessionId"]
                try:
                    yield Page(client, session)
                finally:
                    client.delete(f"/session/{session}")
        finally:
            driver.terminate()
            driver.communicate(timeout=_LIMIT_S)
