"""Visitors' actions for tests of the page."""

import base64
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, missing_packages

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing_packages()), reason=f"needs Debian's {' and '.join(missing_packages())}"),
]
"""Marks of tests of the page."""
AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
"""Finds what keeps people from using a page; `make test` installs it."""
PAD = ".surface"
ANSWER = ".reading .verdict b"
SHOWS = f"document.querySelector('{ANSWER}')?.innerText.trim() === a"
# In the lower right corner, a quarter of the pad wide.
SEVEN = [(0.70, 0.72), (0.90, 0.72), (0.83, 0.82), (0.78, 0.94)]
# Gives the page a file as a visitor does: dropped on the pad, or pasted.
_HAND_OVER = """
const bytes = Uint8Array.from(atob(a.data), (c) => c.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], a.name, { type: a.type }));
const event = a.how === "drop"
  ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
  : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
document.querySelector(".pad").dispatchEvent(event);
"""
_PICK = """
const list = document.querySelectorAll("header select")[a[0]];
list.value = a[1];
list.dispatchEvent(new Event("change", { bubbles: true }));
"""


def visit(window: Browser, http: str, view: str = "try") -> None:
    """Opens the page and waits for what a view first shows."""
    window.open("about:blank")
    window.console()
    window.requested()
    window.open(f"{http}/#{view}")
    window.wait("document.querySelector('main')?.children.length && !document.body.innerText.includes('Loading')")
    if view == "try":
        window.wait(f"document.querySelector('{ANSWER}')?.innerText.trim()")


def clear(page: Browser) -> None:
    """Empties the pad, and waits until the answer is gone."""
    page.press("c")
    page.wait(SHOWS, "")


def pick(page: Browser, key: str, number: int = 0) -> None:
    """Chooses a version, as model/version, from one of the two lists at the top."""
    page.run(_PICK, [number, key])


def hand_over(page: Browser, name: str, content: bytes, how: str = "drop", kind: str = "image/png") -> None:
    """Drops or pastes a file."""
    page.run(_HAND_OVER, {"name": name, "data": base64.b64encode(content).decode(), "how": how, "type": kind})


def problem(page: Browser) -> str:
    """Waits for a sentence about a problem, and returns it."""
    page.wait("document.querySelector('main .problem')")
    return page.text("main .problem")


def violations(page: Browser) -> Any:
    """Returns axe's findings once nothing moves, each a rule with the elements that break it."""
    page.run("await Promise.all(document.getAnimations().map((each) => each.finished))")
    page.run(AXE.read_text() + "; window.axe = axe;")
    return page.run("return (await axe.run()).violations.map((each) => [each.id, each.nodes.map((node) => node.html)])")
