"""docs/tuning.md has the rules of precisions that the code has."""

import re
from pathlib import Path

from pixelserve.precisions import RULES, Rule

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "tuning.md"


def test_the_table_of_precisions_is_that_of_the_code() -> None:
    table = PAGE.read_text().split("## Rules of precisions")[1].split("\n## ")[0]
    rows = [[cell.strip("| `") for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    found = {}
    for precision, by_rows, output, mean, accuracy in rows:
        points = re.fullmatch(r"([\d.]+)(?: points)?", accuracy)
        assert points is not None
        found[precision] = Rule(float(by_rows), float(output), float(mean), round(float(points[1]) / 100, 6))
    assert found == RULES
