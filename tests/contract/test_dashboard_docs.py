"""docs/metrics.md lists every panel of the dashboard."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_table_of_panels_is_that_of_the_dashboard() -> None:
    panels = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())["panels"]
    panels.sort(key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    section = (ROOT / "docs" / "metrics.md").read_text().split("## On the dashboard")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert rows[2:] == [[panel["title"], panel["description"]] for panel in panels]
