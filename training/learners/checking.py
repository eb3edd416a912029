"""Checks a user's own network before it is trained: does it fit the data, and what its recipe says?"""

from typing import Any

import numpy as np

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.words import DeclarationError

from .. import frameworks
from ..datasets import Array, Dataset
from ..errors import UsageError
from ..recipe import KerasRecipe
from ..user_errors import calling
from . import regularize

# Of float32 probabilities that a softmax normalised.
_TOLERANCE = 1e-3


def check(recipe: KerasRecipe, dataset: Dataset) -> None:
    """Builds a recipe's network, augments two samples and computes them.

    Raises:
        UsageError: the user's program fails, or the network's input or output is not what `KerasRecipe.build` says.
    """
    samples = dataset.train.inputs[:2]
    _check_picture(recipe, samples)
    with calling(recipe.build, f"{recipe.name}'s network"):
        model = regularize.build(recipe, len(dataset.labels))
    _check_model(recipe, model)
    _check_input(recipe, model, dataset)
    if recipe.initialize is not None:
        with calling(recipe.initialize, f"{recipe.name}'s initialize"):
            recipe.initialize(model, dataset.train.inputs)
    if recipe.augmentation is not None:
        with calling(recipe.augmentation, f"{recipe.name}'s augmentation"):
            _check_augmented(recipe, recipe.augmentation(), samples)
    with calling(recipe.build, f"{recipe.name}'s network"):
        outputs = np.asarray(model.predict(samples, verbose=0))
    _check_output(recipe, outputs, dataset)


def _check_picture(recipe: KerasRecipe, samples: Array) -> None:
    try:
        if recipe.picture:
            parse(recipe.picture, Input(samples.shape[1:], str(samples.dtype)))
    except DeclarationError as error:
        raise UsageError(f"{recipe.name}: its picture is {recipe.picture}: {error}") from error


def _check_model(recipe: KerasRecipe, model: Any) -> None:
    keras = frameworks.load().keras
    if not isinstance(model, keras.Model):
        raise UsageError(f"{recipe.name}: build returns a {type(model).__name__}; expected a Keras model")
    if not model.built or not getattr(model, "inputs", None):
        raise UsageError(f"{recipe.name}: its network has no defined input; begin with keras.Input(shape, dtype=…)")
    if (counts := (len(model.inputs), len(model.outputs))) != (1, 1):
        raise UsageError(
            f"{recipe.name}: its network has {counts[0]} inputs and {counts[1]} outputs; expected one each"
        )


def _check_augmented(recipe: KerasRecipe, layers: list[Any], samples: Array) -> None:
    layer = frameworks.load().keras.layers.Layer
    if not isinstance(layers, list) or not all(isinstance(each, layer) for each in layers):
        raise UsageError(f"{recipe.name}: augmentation returns {layers!r}; expected a list of Keras layers")
    augmented: Any = samples.astype(np.float32)
    for each in layers:
        augmented = each(augmented, training=True)
    if tuple(augmented.shape) != samples.shape:
        raise UsageError(
            f"{recipe.name}: augmentation makes {[None, *augmented.shape[1:]]} of {[None, *samples.shape[1:]]}; "
            f"the shape must stay"
        )


def _check_input(recipe: KerasRecipe, model: Any, dataset: Dataset) -> None:
    (tensor,), samples = model.inputs, dataset.train.inputs
    wanted, shape = f"{samples.dtype} {[None, *samples.shape[1:]]}", tuple(tensor.shape[1:])
    fits = len(shape) == samples.ndim - 1 and all(
        size in (None, found) for size, found in zip(shape, samples.shape[1:], strict=True)
    )
    if not fits or str(tensor.dtype) != str(samples.dtype):
        raise UsageError(
            f"{recipe.name}: its network takes {tensor.dtype} {[None, *shape]}, but {dataset.name} has {wanted}; begin "
            f'with keras.Input({samples.shape[1:]}, dtype="{samples.dtype}")'
        )


def _check_output(recipe: KerasRecipe, outputs: np.ndarray[Any, Any], dataset: Dataset) -> None:
    classes = len(dataset.labels)
    single = recipe.loss in ("binary_crossentropy", "mean_squared_error")
    fits = {"binary_crossentropy": classes == 2, "mean_squared_error": classes in (0, 2)}.get(recipe.loss, classes > 0)
    if not fits:
        raise UsageError(
            f"{recipe.name}: the loss {recipe.loss} does not fit {dataset.name}, which has {classes or 'no'} classes"
        )
    width = 1 if single else classes
    if outputs.shape[1:] != (width,):
        raise UsageError(
            f"{recipe.name}: its network gives {[None, *outputs.shape[1:]]}, but {recipe.loss} on {dataset.name} needs "
            f"{[None, width]}; end with keras.layers.Dense({width}, …)"
        )
    if not classes:
        return
    sums = outputs.sum(axis=1) if not single else np.ones(len(outputs))
    # NaN is in no range.
    if not (outputs.min() >= 0 and outputs.max() <= 1 and np.abs(sums - 1).max() <= _TOLERANCE):
        activation = "sigmoid" if single else "softmax"
        raise UsageError(
            f"{recipe.name}: its network's outputs are not probabilities ({', '.join(f'{x:.3g}' for x in outputs[0])} "
            f'for the first sample); end with the activation "{activation}"'
        )
