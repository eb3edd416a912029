"""A headless Chromium, driven by chromedriver over W3C WebDriver's plain HTTP (https://www.w3.org/TR/webdriver2/)."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""What is needed, and the Debian packages that have it."""
ENTER, TAB = "\ue007", "\ue004"
_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--use-fake-device-for-media-stream", "--hide-scrollbars"),
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_START_TIMEOUT_S = 60
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def missing_packages() -> list[str]:
    """Returns the Debian packages whose programs are not installed."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


class Browser:
    """One browser window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def command(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Sends a command, GET without a body, and returns the value of its answer."""
        return _send(f"{self._session}{path}", body)

    def cdp(self, method: str, **params: Any) -> Any:
        """Sends a command of Chromium's own protocol."""
        return self.command("/goog/cdp/execute", {"cmd": method, "params": params})

    def open(self, url: str) -> None:
        """Loads a page."""
        self.command("/url", {"url": url})

    def run(self, script: str, argument: Any = None) -> Any:
        """Runs JavaScript, the body of an async function with a parameter `a`, and returns its value."""
        body = {"script": f"return (async (a) => {{ {script} }})(arguments[0])", "args": [argument]}
        return self.command("/execute/sync", body)

    def wait(self, condition: str, argument: Any = None, timeout_s: float = 20) -> Any:
        """Waits until a JavaScript expression is true, and returns its value."""
        end_s = time.monotonic() + timeout_s
        while not (value := self.run(f"return {condition}", argument)):
            assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {condition}; {self.text()[:2000]}"
            time.sleep(0.05)
        return value

    def text(self, selector: str = "body") -> str:
        """Returns the text that an element shows, empty where it is missing."""
        return str(self.run("return document.querySelector(a)?.innerText ?? ''", selector))

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, on whatever has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def draw(self, selector: str, points: Sequence[tuple[float, float]]) -> None:
        """Draws a stroke with the mouse; points are shares of an element's width and height."""
        box = self.run(
            "const b = document.querySelector(a).getBoundingClientRect(); return [b.x, b.y, b.width, b.height]",
            selector,
        )
        places = [(round(box[0] + x * box[2]), round(box[1] + y * box[3])) for x, y in points]
        moves = [{"type": "pointerMove", "duration": 20, "x": x, "y": y, "origin": "viewport"} for x, y in places]
        actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
        self.command("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def click(self, selector: str) -> None:
        """Clicks on an element."""
        self.command(f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Types into a field; into one for files, the path of a file."""
        self.command(f"/element/{self._find(selector)}/value", {"text": text})

    def _find(self, selector: str) -> str:
        return str(self.command("/element", {"using": "css selector", "value": selector})[_ELEMENT])

    def screenshot(self, path: Path) -> None:
        """Saves what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.command("/screenshot")))

    def console(self) -> list[str]:
        """Returns what came to the console since the last time."""
        return [entry["message"] for entry in self.command("/se/log", {"type": "browser"})]

    def requested(self) -> list[str]:
        """Returns the URLs that the page requested since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.command("/se/log", {"type": "performance"})]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


@contextmanager
def running_browser(folder: Path, *, width: int = 1280, height: int = 860) -> Iterator[Browser]:
    """Starts a browser with an empty profile in a folder, and ends it."""
    port_file = folder / "chromedriver.log"
    with port_file.open("w") as log:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{_port(port_file)}/session"
        arguments = [*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
        wanted = {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = _send(url, {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        try:
            yield Browser(f"{url}/{session}")
        finally:
            _send(f"{url}/{session}", method="DELETE")
    finally:
        driver.terminate()
        driver.wait(30)


def _port(log: Path) -> str:
    end_s = time.monotonic() + _START_TIMEOUT_S
    while "on port " not in (text := log.read_text()) or "successfully" not in text:
        assert time.monotonic() < end_s, text
        time.sleep(0.05)
    return text.rpartition("on port ")[2].split(".")[0].strip()


def _send(url: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _OPENER.open(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()[:2000]) from error
