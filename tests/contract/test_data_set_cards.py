"""docs/data-sets.md: a card for each data set of the zoo, as the code has it, with the counts of the real splits."""

from pathlib import Path

import pytest

from pixelserve_training import datasets, zoo
from pixelserve_training.datasets import cards

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data-sets.md").read_text()


def test_the_page_has_the_cards_of_the_code() -> None:
    assert cards.table() in PAGE


def test_each_data_set_of_a_recipe_has_a_card() -> None:
    assert {recipe.dataset for recipe in zoo.recipes()} == cards.CARDS.keys()


@pytest.mark.parametrize("name", ["iris", "blood-fat", "xor", "and"])
def test_the_counts_of_a_table_are_its_splits(name: str) -> None:
    dataset, card = datasets.load(name, None), cards.CARDS[name]
    assert dataset.name == card.title
    assert len(dataset.train) == card.training
    assert (0 if dataset.test is dataset.train else len(dataset.test)) == card.test
