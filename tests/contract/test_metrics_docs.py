"""docs/metrics.md lists every metric."""

import re
from pathlib import Path

from pixelserve_server.observe.metrics import Metrics

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "metrics.md"
SUFFIXES = {"counter": "_total", "info": "_info"}


def test_every_metric_has_its_line_and_no_line_is_about_one_that_is_gone() -> None:
    listed = re.findall(r"^\| `((?:nv|pixelserve|process)_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    families = Metrics().registry.collect()
    assert sorted(listed) == sorted(family.name + SUFFIXES.get(family.type, "") for family in families)
