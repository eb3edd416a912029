"""docs/metrics.md shows every row of the dashboard, and says of every panel what it is."""

import re
from pathlib import Path

import pytest
from PIL import Image

from deploy.grafana.pictures.panels import DASHBOARD, read_rows

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "metrics.md"
ROWS = [row for row in read_rows(DASHBOARD.read_text()) if not all(panel.needs_gpu for panel in row)]


@pytest.mark.parametrize("number", range(1, len(ROWS) + 1))
def test_every_row_has_its_picture_and_every_panel_its_words(number: int) -> None:
    with Image.open(DOCS / "pictures" / f"dashboard-{number}.png") as picture:
        assert picture.format == "PNG"
        # As wide as a page shows it, or more.
        assert picture.width > 1000
    before, found, _ = PAGE.read_text().partition(f"](pictures/dashboard-{number}.png)")
    assert found
    words = before.rpartition("](pictures/dashboard-")[2]
    assert [panel.title for panel in ROWS[number - 1] if f"**{panel.title}**" not in words] == []


def test_no_picture_is_of_a_row_that_is_gone_and_all_are_small() -> None:
    pictures = sorted((DOCS / "pictures").glob("dashboard-*.png"))
    assert [path.name for path in pictures] == [f"dashboard-{number}.png" for number in range(1, len(ROWS) + 1)]
    assert sum(path.stat().st_size for path in pictures) < 500_000
    shown = re.findall(r"\]\(pictures/(dashboard-\d+\.png)\)", PAGE.read_text())
    assert shown == [path.name for path in pictures]
