"""Runs the pages of the course: the command behind `make course`.

    python docs/course/run.py                   runs all pages, writes their pictures, and compares what they print
    python docs/course/run.py 4                 runs the pages whose names begin so
    python docs/course/run.py --write           writes what they print into the pages

A page's Python blocks run in order in one namespace. What a block prints stands in the text block after it. Words and
whole numbers must be equal; other numbers may differ by a twentieth, because other processors round differently.
"""

import argparse
import contextlib
import io
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
TOLERANCE = 0.05
# Units of the last digit; what is 0.000 in one run may be 0.001 in the next.
LAST_DIGITS = 2


@dataclass(frozen=True)
class Block:
    """A Python block of a page."""

    line: int
    """The number of its first line of code, from 1."""
    code: str
    """Its code."""
    shown: str
    """The text block after it; empty if there is none."""


def blocks(page: str) -> Iterator[Block]:
    """Yields a page's Python blocks."""
    for found in BLOCK.finditer(page):
        yield Block(page.count("\n", 0, found.start()) + 2, found[1], found[2] or "")


def prepare() -> None:
    """Loads what all pages need: quiet and deterministic libraries, and drawing without a display."""
    import matplotlib

    from pixelserve_training import frameworks

    libraries = frameworks.load()
    libraries.keras.utils.clear_session()
    libraries.tf.config.experimental.enable_op_determinism()
    matplotlib.use("Agg")


def run(path: Path) -> list[str]:
    """Runs a page; returns what each of its Python blocks prints."""
    prepare()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for block in blocks(path.read_text(encoding="utf-8")):
        # The empty lines give errors the page's line numbers.
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, namespace)  # noqa: S102  (the project's own pages)
        printed.append("".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines()))
    return printed


def agree(shown: str, printed: str) -> bool:
    """Returns whether what a page shows is what it prints, within the tolerance."""
    words = [NUMBER.sub("0", re.sub(r"\s+", " ", text)) for text in (shown, printed)]
    numbers = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False)
    return words[0] == words[1] and all(_near(first, second) for first, second in numbers)


def _near(first: str, second: str) -> bool:
    if "." not in first + second and "e" not in first + second:
        return first == second
    numbers = [float(each.replace(",", "")) for each in (first, second)]
    decimals = len(first.partition(".")[2].partition("e")[0])
    last_digit = 0.0 if "e" in first else LAST_DIGITS * 10.0**-decimals
    return abs(numbers[0] - numbers[1]) <= max(TOLERANCE * max(map(abs, numbers)), last_digit)


def written(page: str, printed: list[str]) -> str:
    """Returns a page with what its blocks print."""
    texts = iter(printed)

    def block(found: re.Match[str]) -> str:
        text = next(texts)
        return f"```python\n{found[1]}```\n" + (f"\n```text\n{text}```\n" if text else "")

    return BLOCK.sub(block, page)


def main() -> int:
    """Runs the pages; returns the exit code: 1 if a page shows something else than it prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="the beginning of a page's name, such as 4; none: all")
    parser.add_argument("--write", action="store_true", help="write what the pages print into them")
    arguments = parser.parse_args()
    wrong = 0
    for path in sorted(FOLDER.glob("[0-9]*.md")):
        if arguments.pages and not path.name.startswith(tuple(arguments.pages)):
            continue
        started_s = time.monotonic()
        printed, page = run(path), path.read_text(encoding="utf-8")
        print(f"{path.name}: {time.monotonic() - started_s:.0f} s")
        if arguments.write:
            path.write_text(written(page, printed), encoding="utf-8")
            continue
        for block, text in zip(blocks(page), printed, strict=True):
            if not agree(block.shown, text):
                wrong += 1
                print(f"{path.name}, line {block.line}: the page shows\n{block.shown}but it prints\n{text}")
    if wrong:
        print("if the new output is right: make course ARGS=--write")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
