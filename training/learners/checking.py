"""Checks a user's own network before it is trained: does it fit the data, and what its recipe says?"""

from typing import Any

import numpy as np

from .. import frameworks
from ..datasets import Dataset
from ..errors import UsageError
from ..recipe import KerasRecipe
from ..user_errors import described
from . import regularize

# Of float32 probabilities that a softmax normalised.
_TOLERANCE = 1e-3


def check(recipe: KerasRecipe, dataset: Dataset) -> None:
    """Builds a recipe's network and computes two samples.

    Raises:
        UsageError: it cannot be built, or its input or output is not what `KerasRecipe.build` describes.
    """
    model = _build(recipe, dataset)
    _check_input(recipe, model, dataset)
    outputs = np.asarray(model.predict(dataset.train.inputs[:2], verbose=0))
    _check_output(recipe, outputs, dataset)


def _build(recipe: KerasRecipe, dataset: Dataset) -> Any:
    try:
        model = regularize.build(recipe, len(dataset.labels))
    except UsageError:
        raise
    except Exception as error:  # whatever the user's program raises
        file = getattr(getattr(recipe.build, "__code__", None), "co_filename", recipe.name)
        raise UsageError(f"{described(error, file)}; correct {recipe.name}'s network") from error
    keras = frameworks.load().keras
    if not isinstance(model, keras.Model):
        raise UsageError(f"{recipe.name}: build returns a {type(model).__name__}; expected a Keras model")
    if not model.built or not getattr(model, "inputs", None):
        raise UsageError(f"{recipe.name}: its network has no defined input; begin with keras.Input(shape, dtype=…)")
    if (counts := (len(model.inputs), len(model.outputs))) != (1, 1):
        raise UsageError(
            f"{recipe.name}: its network has {counts[0]} inputs and {counts[1]} outputs; expected one each"
        )
    return model


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
    if single != (not classes) and not (single and classes == 2):
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
    if outputs.min() < 0 or outputs.max() > 1 or np.abs(sums - 1).max() > _TOLERANCE:
        activation = "sigmoid" if single else "softmax"
        raise UsageError(
            f"{recipe.name}: its network's outputs are not probabilities ({', '.join(f'{x:.3g}' for x in outputs[0])} "
            f'for the first sample); end with the activation "{activation}"'
        )
