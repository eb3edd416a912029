"""Trains a network that starts from another's features: first its last layer alone, then all of it at a lower rate."""

from dataclasses import replace
from functools import partial
from typing import Any

from ..datasets import Dataset, hold_out
from ..errors import UsageError
from ..progress import say
from ..recipe import KerasRecipe, Transfer
from ..running.checkpoint import Checkpoint
from . import network
from .members import Kept
from .network import Network

_FROZEN = "frozen"
PHASE = "phase"
"""The figure in the history that tells the phases apart: 1, the backbone is frozen; 2, all weights learn."""


def fit(recipe: KerasRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Network:
    """Trains a recipe's network in two phases; see `network.fit`.

    While the backbone is frozen, only the last layer learns. Then all weights do, at the lower rate, from a fresh state
    of the optimizer. A stopped run continues in its phase.

    Args:
        recipe: the recipe to train; its epochs and learning rate are those of the first phase.
        dataset: its data set.
        checkpoint: keeps the network after the first phase and after each epoch of the second, or None.

    Raises:
        UsageError: the weights do not fit, or the network cannot be regularised as the recipe says.
        SourceError: the checkpoint is damaged.
        WriteError: the checkpoint cannot be written.
        DivergedError: the loss became NaN or infinite.
    """
    if recipe.transfer is None:
        raise ValueError(f"{recipe.name} has no backbone")
    if recipe.ensemble:
        raise UsageError("--ensemble does not train networks with a backbone; omit it, or --backbone")
    transfer = recipe.transfer
    train, held_out = hold_out(dataset.train, recipe.held_out)
    classes = len(dataset.labels)
    frozen = replace(_phase(recipe, transfer, learns=False), calibrated=recipe.calibrated and not transfer.epochs)
    say(f"phase 1: the last layer learns on {transfer.backbone}, which is frozen ({transfer.weights})")
    if not transfer.epochs:
        return network.fit_splits(frozen, train, held_out, classes=classes, checkpoint=checkpoint)
    first = Kept(checkpoint).train(_FROZEN, frozen, recipe.seed, train, held_out, classes)
    rate = transfer.learning_rate
    say(f"phase 2: all weights learn, {transfer.epochs} epochs at a learning rate of {rate:g}")
    tuned = replace(
        _phase(recipe, transfer, learns=True),
        epochs=transfer.epochs,
        optimizer=replace(recipe.optimizer, learning_rate=rate),
        initialize=partial(_continue_from, first),
    )
    second = network.fit_splits(tuned, train, held_out, classes=classes, checkpoint=checkpoint)
    return replace(second, history=_joined(first.history, second.history))


def _phase(recipe: KerasRecipe, transfer: Transfer, *, learns: bool) -> KerasRecipe:
    return replace(recipe, build=partial(_build, transfer, learns), transfer=None)


def _build(transfer: Transfer, learns: bool, classes: int) -> Any:
    return transfer.build(classes, learns)


def _continue_from(first: Network, model: Any, _: Any) -> None:
    weights = {layer.name: layer.get_weights() for layer in first.model.layers}
    for layer in model.layers:
        layer.set_weights(weights.get(layer.name, layer.get_weights()))


def _joined(first: dict[str, list[float]], second: dict[str, list[float]]) -> dict[str, list[float]]:
    names = [name for name in first if name in second]
    phases = [1.0] * len(first[names[0]]) + [2.0] * len(second[names[0]])
    return {name: first[name] + second[name] for name in names} | {PHASE: phases}
