"""The zoo's tables in README.md and docs/zoo.md, which are generated, and the record of the test splits."""

import re
from pathlib import Path

import pytest
import reference_docs

from pixelserve.interval import wilson
from pixelserve_training import zoo
from pixelserve_training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "zoo.md").read_text()
READINGS = (ROOT / "docs" / "test-split-readings.md").read_text()
# An accuracy, and the interval in the next cell.
PAIR = re.compile(r"(\d+\.\d\d) ?%[^|]*\| (\d+\.\d\d)% to (\d+\.\d\d)% \|")
GENERATED = PAGE.split("<!-- the zoo: written")[1].split("<!-- end -->")[0]
# By hand, all of the 10,000 test images of a data set.
BY_HAND = PAGE.replace(GENERATED, "") + READINGS


@pytest.mark.parametrize("recipe", zoo.recipes(), ids=lambda recipe: recipe.name)
def test_a_recipes_row_has_its_mean_spread_and_interval(recipe: Recipe) -> None:
    (row,) = [line for line in GENERATED.splitlines() if line.startswith(f"| {recipe.name} |")]
    if recipe.goal.metric == "accuracy":
        assert f" {recipe.claimed:.2%} " in row
        assert ("(one seed)" in row) == (len(recipe.measured) == 1)
    if recipe.measured_on is not None:
        low, high = wilson(round(recipe.claimed * recipe.measured_on), recipe.measured_on)
        assert f"| {low:.2%} to {high:.2%} |" in row
    assert (re.search(r"\| \d+ \|$", row) is not None) == bool(recipe.caveat)


def test_a_departure_from_the_protocol_is_noted_below_both_tables() -> None:
    for recipe in zoo.recipes():
        assert recipe.caveat in reference_docs.zoo_table(short=False)
        assert recipe.caveat in reference_docs.zoo_table(short=True)
    assert any(recipe.caveat for recipe in zoo.recipes())


def test_a_figure_of_learned_samples_has_no_interval() -> None:
    for recipe in zoo.recipes():
        assert (recipe.measured_on is None) == (recipe.goal.split == "training")


@pytest.mark.parametrize("row", sorted({row for row in BY_HAND.splitlines() if PAIR.search(row)}))
def test_an_interval_is_that_of_the_accuracy_before_it(row: str) -> None:
    accuracy, *shown = (float(value) for value in PAIR.findall(row)[0])
    interval = wilson(round(accuracy / 100 * 10_000), 10_000)
    # Three roundings to 0.01 %: of the accuracy, of the count that it gives, and of the bound.
    assert shown == pytest.approx([100 * bound for bound in interval], abs=0.0151)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_the_record_has_what_a_flagship_claims(name: str) -> None:
    recipe = zoo.find(name)
    log = READINGS.split("## The log")[1]
    for seed, figure in recipe.measured.items():
        assert re.search(rf"^\| [\d-]+ \| {name} \| \w+ \| {seed} \| [^|]+ \| {figure:.2%} \|", log, re.MULTILINE)
