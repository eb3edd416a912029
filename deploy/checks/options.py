"""Reads options.yaml: the options that the checks combine, and the values that the chart must refuse."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

OPTIONS = Path(__file__).with_name("options.yaml")


@functools.cache
def options() -> dict[str, Any]:
    """Returns options.yaml."""
    described: dict[str, Any] = yaml.safe_load(OPTIONS.read_text())
    return described


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Merges nested values like Helm's values files."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            merge(into.setdefault(key, {}), value)
        else:
            into[key] = value
