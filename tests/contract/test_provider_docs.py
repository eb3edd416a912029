"""docs/settings.md lists the execution providers."""

from pathlib import Path

from pixelserve_server.engine.providers import PROVIDERS

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"


def test_the_table_of_execution_providers_is_that_of_the_code() -> None:
    table = PAGE.read_text().split("## Execution providers")[1].split("\n## ")[0]
    rows = [[cell.strip("| `") for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    assert [row[:4] for row in rows] == [[each.device, each.name, each.extra, each.engine] for each in PROVIDERS]
