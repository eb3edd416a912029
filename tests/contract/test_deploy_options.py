"""The matrix of `make deploy-check` varies every value of the chart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.checks.options import options

Names = tuple[str, ...]
VALUES = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "pixelserve" / "values.yaml"


def leaves(value: Any, at: Names = ()) -> Iterator[Names]:
    """Gives the path of each value that is not a map with keys."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*at, name))
    else:
        yield at


def test_every_value_of_the_chart_is_set_by_a_choice() -> None:
    chosen = [
        path for choices in options()["options"].values() for values in choices.values() for path in leaves(values)
    ]
    known = set(leaves(yaml.safe_load(VALUES.read_text())))
    # A map that is empty by default may hold any key.
    unset = {path for path in known if not any(one[: len(path)] == path for one in chosen)}
    assert not unset, f"add to a choice in deploy/checks/options.yaml: {sorted(map('.'.join, unset))}"


def test_every_choice_sets_values_that_the_chart_has() -> None:
    known = set(leaves(yaml.safe_load(VALUES.read_text())))
    for option, choices in options()["options"].items():
        for choice, values in choices.items():
            for path in leaves(values):
                assert not path or any(path[: len(one)] == one for one in known), f"{option}: {choice}: {path}"
