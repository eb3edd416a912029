"""Builds a recipe's network for pictures of another size or colour."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import frameworks
from ..errors import UsageError

Build = Callable[..., Any]
Shape = tuple[int, int, int]
"""Height, width and channels; 1: grey, 3: red, green, blue."""

# Far more than any network of the zoo; a dense layer on large pictures has billions.
_MOST_PARAMETERS = 200_000_000


def at_shape(build: Build, shape: Shape) -> Build:
    """Returns a builder of the same network for pictures of another shape.

    A builder with a parameter `shape` is called with it. Other networks are built anew layer by layer: convolutions
    keep their weights' shapes, and the first dense layer gets as many inputs as the last feature map has values.

    Args:
        build: returns the network for so many classes; it has one image input.
        shape: the pictures.
    """
    return partial(_built, build, shape)


def _built(build: Build, shape: Shape, classes: int) -> Any:
    model = build(classes)
    if model.input_shape[1:] == shape:
        return model
    try:
        sized = _with_shape(build, shape, classes, model)
    except ValueError as error:
        raise UsageError(
            f"--size {shape[0]}x{shape[1]}: too small for {model.name}, whose layers reduce pictures of "
            f"{model.input_shape[1]} × {model.input_shape[2]}; choose a larger size, or another recipe"
        ) from error
    if sized.count_params() > _MOST_PARAMETERS:
        raise _too_large(shape, model)
    return sized


def _with_shape(build: Build, shape: Shape, classes: int, model: Any) -> Any:
    if "shape" in inspect.signature(build).parameters:
        return build(classes, shape=shape)
    keras = frameworks.load().keras
    image = keras.Input(shape, dtype=model.inputs[0].dtype, name=model.inputs[0].name)
    # A Sequential cannot be cloned for another input; a functional model of the same layers can.
    graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    weights = 0

    def call(layer: Any, features: Any, *others: Any, **options: Any) -> Any:
        """Calls a layer, which creates its weights, unless they would be too many: memory is bounded before."""
        nonlocal weights
        if isinstance(layer, keras.layers.Dense):
            weights += features.shape[-1] * layer.units
            if weights > _MOST_PARAMETERS:
                raise _too_large(shape, model)
        return layer(features, *others, **options)

    return keras.models.clone_model(graph, input_tensors=image, call_function=call)


def _too_large(shape: Shape, model: Any) -> UsageError:
    return UsageError(
        f"--size {shape[0]}x{shape[1]}: {model.name} would have more than {_MOST_PARAMETERS:,} parameters, the most "
        f"that are trained; choose a smaller size, or a recipe that pools its last feature map, such as cifar10"
    )
