"""docs/settings.md lists every setting as it is."""

from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from pixelserve_server.engine.providers import PROVIDERS
from pixelserve_server.settings import ENV_PREFIX, Settings

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"
ROWS = [
    [cell.strip() for cell in line.strip("| \n").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if "`--" in line
]


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "none" if field.default in (None, (), "") else f"`{field.default}`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_flag_variable_default_and_meaning(name: str) -> None:
    field = Settings.model_fields[name]
    row = [f"`--{name.replace('_', '-')}`", f"`{ENV_PREFIX}{name.upper()}`", default(field), field.description]
    assert row in ROWS


def test_no_row_is_about_a_setting_that_is_gone() -> None:
    rows = [row for row in ROWS if row[0].startswith("`--") and len(row) == 4]
    assert len(rows) == len(Settings.model_fields)


def test_the_table_of_execution_providers_is_that_of_the_code() -> None:
    table = PAGE.read_text().split("## Execution providers")[1].split("\n## ")[0]
    rows = [[cell.strip("| `") for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    assert [row[:3] for row in rows] == [[each.key, each.name, each.extra] for each in PROVIDERS]
