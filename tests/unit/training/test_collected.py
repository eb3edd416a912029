"""A recipe, a data set, a learner and a remedy are a module each, which no list names."""

import sys
from pathlib import Path

import pytest

from pixelserve_training import datasets, learners, zoo
from pixelserve_training.collected import collected

ROOT = Path(__file__).resolve().parents[3]


def test_every_module_that_offers_something_is_found_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "offering"
    package.mkdir()
    for name, text in {"__init__": "", "b": "OFFER = 2", "a": "OFFER = 1", "helper": "OTHER = 3"}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert collected("offering", [str(package)], "OFFER") == [1, 2]
    for name in [name for name in sys.modules if name.split(".")[0] == "offering"]:
        del sys.modules[name]


def test_every_recipe_has_a_learner_and_a_data_set() -> None:
    assert len(zoo.recipes()) == 17
    for recipe in zoo.recipes():
        assert isinstance(recipe, learners.of(recipe).kind)
        assert recipe.dataset in datasets.NAMES


def test_recipes_come_from_the_shortest_training_to_the_longest() -> None:
    times = [recipe.training_s for recipe in zoo.recipes()]
    assert times == sorted(times)


def test_an_object_of_no_learners_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no learner for a int"):
        learners.of(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["KerasRecipe", "LogisticRecipe", "BackpropRecipe"])
def test_no_module_asks_which_kind_a_recipe_is(kind: str) -> None:
    asked = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "training").rglob("*.py")
        for line in path.read_text().splitlines()
        if "isinstance(" in line and kind in line
    ]
    assert asked == []
