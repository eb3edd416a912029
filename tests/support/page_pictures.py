"""Photographs the page for the docs: light, dark, Trust and on a phone, in a real browser on the committed models."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import Browser, missing_packages, running_browser

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "docs" / "pictures"
PAD = ".surface"
# A small 5, off centre.
FIVE = [
    [
        (0.40, 0.56),
        (0.39, 0.61),
        (0.38, 0.67),
        (0.42, 0.66),
        (0.47, 0.67),
        (0.51, 0.71),
        (0.51, 0.77),
        (0.46, 0.82),
        (0.40, 0.82),
        (0.36, 0.79),
    ],
    [(0.40, 0.56), (0.46, 0.56), (0.52, 0.55)],
]
ANSWERED = "document.querySelector('.reading .verdict b')?.innerText.trim() && document.querySelector('.status')"


@contextmanager
def running_server() -> Iterator[str]:
    """Runs a server on the committed models; gives the URL of its HTTP API."""
    command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(ROOT / "models")]
    command += ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            events = (json.loads(line) for line in process.stderr or () if line.startswith("{"))
            serving = next((event for event in events if event["event"] == "serving"), None)
            if serving is None:
                sys.exit("the server did not start; try: pixelserve serve --model-repository models")
            yield serving["http"]
        finally:
            process.terminate()
            process.communicate()


def show(browser: Browser, url: str, width: int, height: int, *, is_phone: bool = False) -> None:
    """Opens the page in a window of so many CSS pixels and waits for its first answer."""
    browser.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=is_phone)
    browser.open("about:blank")
    browser.open(url)
    browser.wait(ANSWERED)


def draw(browser: Browser) -> None:
    """Draws the digit, and waits for its answer."""
    browser.press("c")
    browser.wait("!document.querySelector('.bars')")
    for stroke in FIVE:
        browser.draw(PAD, stroke)
    browser.wait("document.querySelector('.bars')")
    # The bars move for a moment, and the picture after the last stroke may be on its way.
    browser.run("await new Promise((done) => setTimeout(done, 2500))")


def pick(browser: Browser, number: int, key: str) -> None:
    """Chooses from one of the lists at the top."""
    browser.run(
        "const list = document.querySelectorAll('header select')[a[0]]; list.value = a[1]; "
        "list.dispatchEvent(new Event('change', { bubbles: true }))",
        [number, key],
    )


def photograph(browser: Browser, http: str, folder: Path) -> Iterator[Path]:
    """Saves one picture after the other."""

    def save(name: str) -> Path:
        browser.screenshot(folder / f"page-{name}.png")
        return folder / f"page-{name}.png"

    show(browser, f"{http}/", 1232, 656)
    draw(browser)
    yield save("light")
    # Not with the mouse, which would stay on it.
    browser.run("document.querySelector('button.quiet').click()")
    pick(browser, 1, "mnist-cnn/1")
    browser.cdp("Emulation.setDeviceMetricsOverride", width=1232, height=1000, deviceScaleFactor=2, mobile=False)
    browser.press("w")
    browser.wait("document.querySelectorAll('.map').length === 2")
    browser.run("await new Promise((done) => setTimeout(done, 1500))")
    yield save("dark")
    yield from _photograph_trust(browser, http, save)
    show(browser, f"{http}/", 390, 844, is_phone=True)
    draw(browser)
    yield save("phone")


def _photograph_trust(browser: Browser, http: str, save: Callable[[str], Path]) -> Iterator[Path]:
    show(browser, f"{http}/", 880, 1400)
    pick(browser, 0, "cifar10/1")
    browser.press("2")
    browser.wait("[...document.querySelectorAll('.errors img')].every((each) => each.complete)")
    # Down to the end of the first row of errors.
    height = browser.run("return document.querySelector('.errors li:nth-child(5)').getBoundingClientRect().top")
    browser.cdp("Emulation.setDeviceMetricsOverride", width=880, height=int(height), deviceScaleFactor=1, mobile=False)
    browser.run("await new Promise((done) => setTimeout(done, 500))")
    yield save("trust")


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(prog="make page-pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=PICTURES, help="where they go (default: docs/pictures)")
    args = parser.parse_args()
    if missing := missing_packages():
        sys.exit(f"needs Chromium and its driver; on Debian: apt install {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as profile, running_server() as http, running_browser(Path(profile)) as browser:
        for path in photograph(browser, http, args.folder):
            print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
