"""The zoo's tables in README.md and docs/zoo.md: the same figures, and an interval beside each accuracy."""

import re
from pathlib import Path

import pytest

from pixelserve.interval import wilson
from pixelserve_training import zoo

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs" / "zoo.md").read_text()
READINGS = (ROOT / "docs" / "test-split-readings.md").read_text()
# Where a figure is not one of the 10,000 test images of MNIST, Fashion-MNIST and CIFAR-10.
SAMPLES = {"iris": 30, "fashion-softmax": 12_000}
LEARNED_FROM = {"and", "xor", "numpy-and", "numpy-xor", "blood-fat"}
# An accuracy, and the interval in the next cell.
PAIR = re.compile(r"(\d+\.\d\d) ?%[^|]*\| (\d+\.\d\d)% to (\d+\.\d\d)% \|")


def zoo_table(text: str) -> list[str]:
    return re.findall(r"^\| recipe \| data set \|.*\n(?:\|.*\n)+", text, re.MULTILINE)[0].splitlines()


def shortened(row: str) -> str:
    """Returns the README's row for one of docs/zoo.md."""
    recipe, dataset, *_, measured, interval, _, training = (cell.strip() for cell in row.strip("|").split("|"))
    accuracy = f"{measured} ({interval})" if interval else measured
    return f"| {recipe} | {dataset} | {accuracy} | {training} |"


def test_the_readmes_table_is_the_short_form_of_the_full_one() -> None:
    head, *rows = zoo_table(README)
    assert head == "| recipe | data set | accuracy (95% interval) | training |"
    assert rows == ["| --- | --- | --- | --- |", *map(shortened, zoo_table(PAGE)[2:])]


def test_the_full_table_has_every_recipe() -> None:
    assert [row.split(" | ")[0].strip("| ") for row in zoo_table(PAGE)[2:]] == [each.name for each in zoo.recipes()]


def test_every_measured_accuracy_has_its_interval() -> None:
    rows = {row.split(" | ")[0].strip("| "): row for row in zoo_table(PAGE)[2:]}
    assert {name for name, row in rows.items() if not PAIR.search(row)} == LEARNED_FROM


@pytest.mark.parametrize("row", sorted({row for row in (PAGE + READINGS).splitlines() if PAIR.search(row)}))
def test_an_interval_is_that_of_the_accuracy_before_it(row: str) -> None:
    samples = SAMPLES.get(row.split(" | ")[0].strip("| "), 10_000)
    accuracy, *shown = (float(value) for value in PAIR.findall(row)[0])
    interval = wilson(round(accuracy / 100 * samples), samples)
    # Three roundings to 0.01 %: of the accuracy, of the count that it gives, and of the bound.
    assert shown == pytest.approx([100 * bound for bound in interval], abs=0.0151)


def test_the_record_of_the_test_split_ends_with_what_each_flagship_claims() -> None:
    for name in ("mnist", "fashion-mnist", "cifar10"):
        record = READINGS.split(f"\n| {name} |")[1]
        committed = re.search(r"committed \| (\d+\.\d\d) %", record)
        assert committed is not None
        assert float(committed[1]) == pytest.approx(100 * zoo.find(name).claimed)
