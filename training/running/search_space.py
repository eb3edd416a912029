"""The values that `pixelserve tune` tries, in texts such as optimizer.learning_rate=1e-4..1e-1:log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import learners, plain_values
from ..datasets import Dataset
from ..errors import UsageError
from ..recipe import Recipe
from . import overrides

# How far from the recipe's value the default ranges reach, as a factor.
_REACH = 10
_WEIGHT_DECAY = "1e-6..1e-2:log"
_DROPOUT = "0..0.5"


@dataclass(frozen=True)
class Range:
    """The values of one path: some, or those between two numbers."""

    choices: tuple[str, ...] = ()
    """The values as texts; empty for a range of numbers."""
    low: float = 0.0
    """The smallest number."""
    high: float = 0.0
    """The largest number."""
    log: bool = False
    """Whether numbers are drawn uniformly by their logarithm."""
    whole: bool = False
    """Whether numbers are integers."""

    def suggest(self, trial: Any, path: str) -> Any:
        """Returns the value that an Optuna trial tries."""
        if self.choices:
            return trial.suggest_categorical(path, list(self.choices))
        if self.whole:
            return trial.suggest_int(path, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(path, self.low, self.high, log=self.log)


def read(texts: Sequence[str], recipe: Recipe) -> dict[str, Range]:
    """Returns ranges by path from texts: PATH=LOW..HIGH, PATH=LOW..HIGH:log or PATH=VALUE,VALUE.

    Raises:
        UsageError: a text has another form, a path or a value is none of the recipe's, or a range is empty.
    """
    found: dict[str, Range] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--space {text}: expected PATH=LOW..HIGH, PATH=LOW..HIGH:log or PATH=VALUE,VALUE")
        found[path] = _range(text, path, values, recipe)
        for value in found[path].choices or (found[path].low, found[path].high):
            # Each end is a value that the recipe may have.
            overrides.apply(recipe, {path: str(int(value)) if found[path].whole else str(value)})
    return found


def default(recipe: Recipe, dataset: Dataset) -> dict[str, Range]:
    """Returns the ranges that are tried unless the caller gives others: what most often matters to an optimizer."""
    known = plain_values.settings(recipe)
    steps = [path for path in ("optimizer.learning_rate", "learning_rate", "alpha") if path in known]
    texts = [f"{path}={known[path] / _REACH:g}..{known[path] * _REACH:g}:log" for path in steps]
    if "batch_size" in known:
        size = known["batch_size"]
        texts.append(f"batch_size={max(size // 2, 1)},{size},{size * 2}")
    if "optimizer.name" in known:
        texts.append(f"optimizer.weight_decay={_WEIGHT_DECAY}")
    # Dropout comes before the last Dense layer.
    if any(layer.kind == "Dense" for layer in learners.of(recipe).layers(recipe, dataset)):
        texts.append(f"regularization.dropout={_DROPOUT}")
    return read(texts, recipe)


def _range(text: str, path: str, values: str, recipe: Recipe) -> Range:
    if ".." not in values:
        return Range(choices=tuple(values.split(",")))
    numbers, _, scale = values.partition(":")
    try:
        low, high = (float(number) for number in numbers.split(".."))
    except ValueError as error:
        raise UsageError(f"--space {text}: expected two numbers, such as 1e-4..1e-1") from error
    log = scale == "log"
    if scale not in ("", "log") or not low < high or (log and low <= 0):
        raise UsageError(
            f"--space {text}: expected LOW below HIGH, both above 0 with :log, which is the only scale beside none"
        )
    plain: Mapping[str, plain_values.PlainValue] = plain_values.listed(recipe)
    whole = path in plain and plain_values.is_whole(plain[path].kind)
    return Range(low=low, high=high, log=log, whole=whole)
