"""The chart matches its sources, and each value has its table row, type and comment."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm import document
from pixelserve_server import life
from pixelserve_server.settings import Settings

SCHEMA = json.loads((document.CHART / "values.schema.json").read_text())
# A file of values -> the memory that the process takes without requests: 146 MiB with the four committed models.
PROCESS_MIB = 150


@pytest.mark.parametrize("path", document.documents(), ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert path.read_text() == document.documents()[path], "run `make chart-docs`"


def test_values_without_a_comment_are_refused() -> None:
    with pytest.raises(document.DocumentError, match="line 3: b has no comment"):
        list(document.values("# one\na: 1\nb: 2\n"))


def test_values_over_several_lines_are_refused() -> None:
    with pytest.raises(document.DocumentError, match='line 3: "- 1" is not a key'):
        list(document.values("# one\na:\n  - 1\n"))


def test_groups_and_leaves_get_their_whole_names() -> None:
    found = list(document.values("# group\na:\n  # one\n  # more\n  b: {c: 1}\n# two\nd: x\n"))
    assert [(each.path, each.default, each.meaning) for each in found] == [
        ("a", None, "group"),
        ("a.b", "{c: 1}", "one more"),
        ("d", "x", "two"),
    ]


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return schema if reference is None else SCHEMA["definitions"][reference.rpartition("/")[2]]


def named(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, child in resolve(schema).get("properties", {}).items():
        yield path + name
        yield from named(child, f"{path}{name}.")


def test_the_schema_knows_each_value_of_the_chart() -> None:
    known = set(named(SCHEMA))
    assert [
        each.path for each in document.values((document.CHART / "values.yaml").read_text()) if each.path not in known
    ] == []


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            yield schema
        for child in schema.values():
            yield from objects(child)


def test_the_schema_refuses_unknown_names_everywhere() -> None:
    found = list(objects(SCHEMA))
    assert len(found) > 20
    assert [each for each in found if each["additionalProperties"] is not False] == []


def test_settings_that_the_chart_decides_cannot_be_set_a_second_time() -> None:
    offered = set(SCHEMA["properties"]["server"]["properties"]["settings"]["propertyNames"]["enum"])
    assert offered == set(Settings.model_fields) - document.CHART_SETS


def test_the_chart_has_the_version_of_the_project() -> None:
    described = yaml.safe_load((document.CHART / "Chart.yaml").read_text())
    project = tomllib.loads((document.DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert described["version"] == described["appVersion"] == project["version"]


def test_the_kubelet_waits_for_longer_than_the_server_may_take_after_its_grace() -> None:
    margin_s = 2  # in templates/_pod.tpl
    assert margin_s > life.ENDING_S + life._SLACK_S + life._LAST_LINE_S


@pytest.mark.parametrize("file", ["values.yaml", "values-demo.yaml"])
def test_the_memory_limit_holds_what_the_settings_allow(file: str) -> None:
    values = yaml.safe_load((document.CHART / file).read_text())
    settings = values["server"]["settings"]

    def mib(name: str) -> int:
        return int(settings.get(name, Settings.model_fields[name].default))

    needed = sum(map(mib, ("max_inflight_mib", "max_decode_mib", "warmup_mib"))) + PROCESS_MIB
    limit = values["resources"]["limits"]["memory"]
    assert needed <= (int(limit[:-2]) * {"Gi": 1024, "Mi": 1}[limit[-2:]])
