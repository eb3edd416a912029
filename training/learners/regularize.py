"""Adds l1, l2 and dropout to a recipe's network, so the zoo's files need not."""

from typing import Any

from .. import frameworks
from ..errors import UsageError
from ..recipe import KerasRecipe, Regularization
from .learner import Remedy

_REGULARIZER = "kernel_regularizer"

REMEDY = Remedy({"l1": "regularization.l1", "l2": "regularization.l2", "dropout": "regularization.dropout"})


def build(recipe: KerasRecipe, classes: int) -> Any:
    """Returns a recipe's untrained model, regularised as the recipe says.

    Its initial weights are the same as without regularisation, so nothing else differs between two
    runs of one seed.

    Raises:
        UsageError: the network has no layer to regularise.
    """
    model = recipe.build(classes)
    wanted = recipe.regularization
    if not wanted.l1 and not wanted.l2 and not wanted.dropout:
        return model
    _check(recipe, model)
    keras = frameworks.load().keras
    # A Sequential cannot insert layers while it is cloned; a functional model of the same layers can.
    graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    regularized = keras.models.clone_model(
        graph,
        clone_function=lambda layer: _clone(layer, wanted),
        call_function=_dropping_before(_last_dense(model), wanted.dropout),
    )
    for layer in graph.layers:
        regularized.get_layer(layer.name).set_weights(layer.get_weights())
    return regularized


def _check(recipe: KerasRecipe, model: Any) -> None:
    wanted = recipe.regularization
    if (wanted.l1 or wanted.l2) and not any(_REGULARIZER in layer.get_config() for layer in model.layers):
        raise UsageError(f"--l1 and --l2: {recipe.name} has no layer with a kernel; omit the options")
    if wanted.dropout and _last_dense(model) is None:
        raise UsageError(f"--dropout is added before the last Dense layer, but {recipe.name} has none; omit the option")


def _last_dense(model: Any) -> Any:
    dense = frameworks.load().keras.layers.Dense
    return next((layer for layer in reversed(model.layers) if isinstance(layer, dense)), None)


def _clone(layer: Any, wanted: Regularization) -> Any:
    config = layer.get_config()
    if _REGULARIZER in config and (wanted.l1 or wanted.l2):
        regularizer = frameworks.load().keras.regularizers.L1L2(l1=wanted.l1, l2=wanted.l2)
        config[_REGULARIZER] = frameworks.load().keras.regularizers.serialize(regularizer)
    return type(layer).from_config(config)


def _dropping_before(last_dense: Any, rate: float) -> Any:
    """Returns a call function for `clone_model` that puts dropout before the clone of `last_dense`."""
    layers = frameworks.load().keras.layers

    def call(layer: Any, *args: Any, **options: Any) -> Any:
        if rate and layer.name == last_dense.name:
            args = (layers.Dropout(rate, name="regularization_dropout")(args[0]), *args[1:])
        return layer(*args, **options)

    return call
