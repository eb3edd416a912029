"""Shared by all ensembles: the members' seeds and training, and joining networks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import frameworks
from ..datasets import Split
from ..progress import say
from ..recipe import Ensemble, KerasRecipe
from ..running.checkpoint import Checkpoint
from . import keeping, network
from .network import Network

OUTPUT = "probabilities"


def seeds(recipe: KerasRecipe, count: int) -> list[int]:
    """Returns a seed for each member, derived from the recipe's."""
    return [int(seed) for seed in np.random.SeedSequence(recipe.seed).generate_state(count)]


def others(ensemble: Ensemble) -> list[Any]:
    """Returns the other recipes of an ensemble, of any kind.

    Raises:
        UsageError: the zoo has no such recipe.
    """
    # The zoo's recipes are of the learners' kinds, so it cannot be imported before these.
    from .. import zoo

    return [zoo.find(name) for name in ensemble.others]


def recipes(recipe: KerasRecipe, ensemble: Ensemble) -> list[KerasRecipe]:
    """Returns each member's recipe, with its own seed: the recipe as often as there are members, or one of each."""
    if ensemble.others:
        # They learn alone, as the recipe does in an ensemble.
        alone = [replace(other, calibrated=False, teacher=None, ensemble=None) for other in others(ensemble)]
        each = [recipe, *alone]
    else:
        each = [recipe] * ensemble.members
    return [replace(one, seed=seed) for one, seed in zip(each, seeds(recipe, len(each)), strict=True)]


def draw(random: np.random.Generator, samples: int, weights: npt.NDArray[Any] | None = None) -> npt.NDArray[np.int64]:
    """Returns a bootstrap sample: `samples` indices, drawn with replacement.

    Efron 1979, "Bootstrap Methods: Another Look at the Jackknife": of equally likely samples, 1 - 1/e = 63 % are in it.

    Args:
        random: the random generator.
        samples: number of samples.
        weights: float [samples], the probability of each, summing to 1; None: uniform.
    """
    return random.choice(samples, size=samples, p=weights)


def train(recipe: KerasRecipe, seed: int, split: Split, held_out: Split, classes: int) -> Network:
    """Trains one member: the recipe's network with its own seed."""
    return network.fit_splits(replace(recipe, seed=seed, ensemble=None), split, held_out, classes=classes)


class Kept:
    """Trains the models of an ensemble, except those that a stopped run already trained."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        """`checkpoint` keeps the models; None: they are not kept."""
        self._checkpoint = checkpoint

    def train(self, name: str, recipe: KerasRecipe, seed: int, split: Split, held_out: Split, classes: int) -> Network:
        """Returns the trained model of a name; see `train`.

        Raises:
            SourceError: a kept model is damaged.
            WriteError: it cannot be written.
        """
        checkpoint = self._checkpoint
        if checkpoint is not None and name in checkpoint.state.members:
            say(f"{name} was trained before")
            return Network(keeping.load(checkpoint.member(name)), checkpoint.state.members[name], temperature=None)
        trained = train(recipe, seed, split, held_out, classes)
        if checkpoint is not None:
            checkpoint.keep_member(name, trained.history, trained.model.save)
        return trained


def tell(number: int, count: int, what: str = "") -> None:
    """Announces the next member; `number` counts from 1."""
    say(f"member {number} of {count}{what}")


def join(recipe: KerasRecipe, members: Sequence[Network], combine: Callable[[list[Any]], Any]) -> Network:
    """Joins members into one network with their input, whose output combines theirs.

    Each becomes a layer member_1 and so on; its history has the same prefix.

    Args:
        recipe: the members' recipe.
        members: the trained members.
        combine: maps the members' outputs, each probabilities [N, classes], to their combination of the same shape,
            with a layer named `OUTPUT`.
    """
    keras = frameworks.load().keras
    first = members[0].model.inputs[0]
    image = keras.Input(first.shape[1:], dtype=first.dtype, name="image" if len(first.shape) == 4 else "features")
    outputs: list[Any] = []
    history: dict[str, list[float]] = {}
    for number, member in enumerate(members, start=1):
        name = f"member_{number}"
        outputs.append(keras.Model(member.model.inputs[0], member.model.outputs[0], name=name)(image))
        history |= {f"{name}_{figure}": values for figure, values in member.history.items()}
    model = keras.Model(image, combine(outputs), name=f"{recipe.name}-ensemble")
    return Network(model, history, temperature=None, also_saved_as=recipe.also_saved_as)
