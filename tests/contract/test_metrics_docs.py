"""docs/statistics.md lists every metric."""

import re
from pathlib import Path

from pixelserve_server.observe.metrics import Metrics

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "statistics.md"
SUFFIXES = {"counter": "_total", "info": "_info"}


def test_every_metric_has_its_line_and_no_line_is_about_one_that_is_gone() -> None:
    listed = re.findall(r"^\| `((?:nv|pixelserve)_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(family.name + SUFFIXES.get(family.type, "") for family in Metrics().collect())
