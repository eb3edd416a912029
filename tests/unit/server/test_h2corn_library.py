"""What importing h2corn costs, and who decides it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("h2corn")

OPTION = "MIMALLOC_ARENA_EAGER_COMMIT"
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
REPORT = f"""
import os
from pathlib import Path
from pixelserve_server.transport.h2corn.library import h2corn
import h2corn._lib
lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
print(os.environ["{OPTION}"], next(line.split()[1] for line in lines if line.startswith("AnonHugePages")))
"""


def on_request() -> bool:
    return HUGE_PAGES.exists() and "[madvise]" in HUGE_PAGES.read_text()


def imported(**variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != OPTION}
    command = [sys.executable, "-c", REPORT]
    done = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(not on_request(), reason="this kernel gives huge pages to all processes, or to none")
def test_the_library_takes_no_huge_pages() -> None:
    assert imported() == ["0", "0"]
    # Otherwise it does, so the option still has its effect.
    assert int(imported(**{OPTION: "1"})[1]) > 0


def test_the_operators_own_value_stands() -> None:
    assert imported(**{OPTION: "2"})[0] == "2"
