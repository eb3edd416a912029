"""Options of `pixelserve train` for a user's own pictures: size, colour, augmentation, and a trained backbone."""

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pixelserve.card import sha256_of
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.words import DeclarationError

from .. import learners
from ..datasets import Dataset, hold_out, image_shape
from ..errors import UsageError
from ..learners import backbones
from ..learners.augmenting import PRESETS
from ..learners.sizes import Shape, at_shape
from ..progress import say
from ..recipe import Goal, KerasRecipe, Optimizer, Recipe, Transfer

TRANSFER = "transfer"
"""The recipe's name for a network with a trained backbone."""

_SIDES = (8, 1024)
_USUAL = (96, 96, 3)
# Steps of each phase: few, because there are few weights to learn, or they are nearly right.
_FROZEN_STEPS, _TUNING_STEPS = 200, 60
_TUNING_RATE = 0.03


@dataclass(frozen=True)
class PictureOptions:
    """The options; None keeps the recipe's value."""

    size: str | None = None
    """Height and width in pixels, such as 96 or 96x128."""
    channels: Literal[1, 3] | None = None
    """1: grey, 3: red, green, blue."""
    picture: str | None = None
    """How pictures are fitted, in the words of docs/pictures.md."""
    augment: str | None = None
    """The augmentation's preset."""
    backbone: str | None = None
    """The trained network to start from."""
    weights: str | None = None
    """Its weights: a path, or `backbones.RANDOM`."""
    tuning_epochs: int | None = None
    """Passes in which the backbone learns as well; 0: none."""

    def check(self, recipe: Recipe, *, own: bool) -> None:
        """Checks that the options fit each other and the recipe.

        Raises:
            UsageError: they do not.
        """
        given = {name: value for name, value in vars(self).items() if value is not None}
        if given and not own:
            raise UsageError(
                f"{_option(next(iter(given)))} is for your own pictures; give them with --images, or omit it"
            )
        is_transfer = recipe.name == TRANSFER
        if is_transfer and (not own or self.backbone is None):
            raise UsageError(
                f"{TRANSFER} needs your own pictures and a trained network: give --images and --backbone "
                f"({', '.join(backbones.names())})"
            )
        if is_transfer:
            backbones.check(str(self.backbone), self.weights)
        for name in ("backbone", "weights", "tuning_epochs"):
            if name in given and not is_transfer:
                raise UsageError(f"{_option(name)} is for the recipe {TRANSFER}; give that instead of {recipe.name}")
        if self.augment is not None and self.augment not in PRESETS:
            raise UsageError(f'--augment "{self.augment}": expected one of {", ".join(PRESETS)}')
        if self.tuning_epochs is not None and self.tuning_epochs < 0:
            raise UsageError(f"--tuning-epochs {self.tuning_epochs}: expected 0 or more")

    def completed(self, kept: "PictureOptions") -> "PictureOptions":
        """Returns the options, with missing ones filled in from those of the run's start."""
        return replace(kept, **{name: value for name, value in vars(self).items() if value is not None})


DEFAULTS = PictureOptions()
"""No option."""


def transfer_recipe() -> KerasRecipe:
    """Returns the recipe for a trained backbone, which `adapt` completes."""
    return KerasRecipe(
        name=TRANSFER,
        summary="your own pictures: a trained network with a new last layer",
        dataset="",
        parameters=0,
        goal=Goal(0.0),
        build=lambda classes: None,
        optimizer=Optimizer("adam", 0.003),
        epochs=1,
        batch_size=16,
        augmentation=PRESETS["light"],
        measured={},
        training_s=0,
    )


def spec_of(recipe: Recipe, options: PictureOptions) -> PictureSpec:
    """Returns the pictures that a recipe's network learns.

    Raises:
        UsageError: the recipe cannot learn pictures, or an option is invalid.
    """
    usual = _USUAL if recipe.name == TRANSFER else image_shape(recipe.dataset)
    if usual is None or not learners.of(recipe).learns_pictures:
        able = ", ".join(backbones.recipe_names())
        raise UsageError(
            f"--images: {recipe.name} cannot be trained on your own pictures; these can: {able}, {TRANSFER}"
        )
    height, width = usual[:2] if options.size is None else _sides(options.size)
    shape = (height, width, options.channels or usual[2])
    try:
        spec = parse(options.picture or "", Input(shape, "uint8"))
    except DeclarationError as error:
        write = "" if error.write is None else f'; write --picture "{error.write}"'
        raise UsageError(f'--picture "{options.picture}": {error.problem}{write}') from error
    return spec


def adapt(
    recipe: KerasRecipe, options: PictureOptions, spec: PictureSpec, dataset: Dataset, *, epochs_chosen: bool
) -> KerasRecipe:
    """Returns a recipe for a user's own pictures.

    Args:
        recipe: the recipe, with the caller's overrides.
        options: the caller's options.
        spec: the pictures.
        dataset: the pictures, read.
        epochs_chosen: whether the caller chose the number of epochs.

    Raises:
        UsageError: the backbone or its weights do not fit.
    """
    if options.augment is not None:
        recipe = replace(recipe, augmentation=PRESETS[options.augment])
    if dataset.train.validation is not None:
        recipe = replace(recipe, held_out=float(dataset.train.validation.mean()))
    shape = (spec.height, spec.width, spec.channels)
    if recipe.name == TRANSFER:
        return _with_backbone(recipe, options, shape, dataset, epochs_chosen=epochs_chosen)
    if shape == image_shape(recipe.dataset):
        return recipe
    teacher = recipe.teacher and replace(recipe.teacher, build=at_shape(recipe.teacher.build, shape))
    return replace(recipe, build=at_shape(recipe.build, shape), teacher=teacher)


def settings_of(options: PictureOptions, spec: PictureSpec, recipe: Recipe) -> dict[str, Any]:
    """Returns what a run's settings add to the recipe's values; `picture` is what the exported model declares."""
    augment = options.augment or ("light" if recipe.name == TRANSFER else "the recipe's")
    return {"picture": str(spec), "augment": augment}


def _with_backbone(
    recipe: KerasRecipe, options: PictureOptions, shape: Shape, dataset: Dataset, *, epochs_chosen: bool
) -> KerasRecipe:
    build = backbones.network(str(options.backbone), options.weights, shape)
    steps = -(-len(hold_out(dataset.train, recipe.held_out)[0]) // recipe.batch_size)
    frozen = recipe.epochs if epochs_chosen else -(-_FROZEN_STEPS // steps)
    tuning = options.tuning_epochs if options.tuning_epochs is not None else -(-_TUNING_STEPS // steps)
    if options.weights == backbones.RANDOM:
        say(f"{options.backbone} starts from random weights, which all learn from the start")
        return replace(recipe, epochs=frozen + tuning, build=partial(_learning, build))
    rate = recipe.optimizer.learning_rate * _TUNING_RATE
    source = _named(options.weights)
    transfer = Transfer(backbone=str(options.backbone), weights=source, build=build, epochs=tuning, learning_rate=rate)
    return replace(recipe, epochs=frozen, build=partial(_learning, build), transfer=transfer)


def _learning(build: Any, classes: int) -> Any:
    return build(classes, True)


def _named(weights: str | None) -> str:
    if weights is None:
        return "ImageNet, downloaded by Keras"
    path = Path(weights)
    file = next((each for each in (path, path / "model.keras") if each.is_file()), None)
    return f"{weights}, SHA-256 {sha256_of(file)[:12]}…" if file else weights


def _sides(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not all(_SIDES[0] <= side <= _SIDES[1] for side in sides):
        raise UsageError(
            f"--size {text}: expected pixels a side, such as 96, or height and width, such as 96x128; {_SIDES[0]} to "
            f"{_SIDES[1]:,} each"
        )
    return sides


def _option(name: str) -> str:
    return "--colour or --grey" if name == "channels" else f"--{name.replace('_', '-')}"
