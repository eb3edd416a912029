"""Trains a network with a teacher: first the teacher, then the network on its outputs and the labels."""

from dataclasses import replace

from ..datasets import Dataset, hold_out
from ..progress import say
from ..recipe import KerasRecipe
from ..running.checkpoint import Checkpoint
from . import network
from .members import Kept
from .network import Network

_TEACHER = "teacher"


def fit(recipe: KerasRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Network:
    """Trains a network and, before it, its teacher; see `network.fit`.

    Both learn from the same samples and are evaluated on the same held-out ones. A run that was stopped while the
    network learned continues with the same teacher.

    Args:
        recipe: the recipe to train.
        dataset: its data set.
        checkpoint: keeps the trained teacher and each epoch of the network, or None.

    Raises:
        UsageError: the network cannot be regularised as the recipe says.
        SourceError: the checkpoint is damaged.
        WriteError: the checkpoint cannot be written.
        DivergedError: the loss became NaN or infinite.
    """
    if recipe.teacher is None:
        raise ValueError(f"{recipe.name} has no teacher")
    train, held_out = hold_out(dataset.train, recipe.held_out)
    classes = len(dataset.labels)
    alone = replace(recipe, build=recipe.teacher.build, teacher=None, calibrated=False)
    say(f"a teacher learns before {recipe.name}")
    teacher = Kept(checkpoint).train(_TEACHER, alone, recipe.seed, train, held_out, classes)
    return network.fit_splits(recipe, train, held_out, classes=classes, checkpoint=checkpoint, teacher=teacher)
