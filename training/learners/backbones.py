"""Trained networks as backbones: everything but their last layer, for pictures of any size and colour.

A recipe's network sees pictures at the size that it was trained on: they are reduced inside the graph, because features
depend on the size of what they show. Of held-out CIFAR-10 pictures of an automobile, frog or airplane enlarged to 96 x
96, a linear classifier on cifar10's features told 99.7 % apart when they were reduced to 32 x 32, 95 % at 48, 81 % at
96. The networks of keras.applications see pictures at the caller's size.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from .. import frameworks, zoo
from ..datasets import image_shape
from ..errors import UsageError
from ..recipe import KerasRecipe
from . import onnx_weights, pretrained
from .sizes import Shape

BACKBONE = "backbone"
"""The name of the backbone, a layer of the network."""
RANDOM = "random"
"""In place of a file of weights: random ones, of which all learn from the start."""

_DROPOUT = 0.2


def names() -> list[str]:
    """Returns the backbones' names: of the zoo's networks for pictures, then of keras.applications."""
    return [*recipe_names(), *pretrained.NAMES]


def recipe_names() -> list[str]:
    """Returns the names of the zoo's networks for pictures."""
    return [recipe.name for recipe in _recipes()]


def check(backbone: str, weights: str | None) -> None:
    """Checks a backbone's name and that its weights are there, before any pictures are read.

    Args:
        backbone: see `network`.
        weights: see `network`.

    Raises:
        UsageError: an unknown name, or missing weights.
    """
    if backbone not in names():
        raise UsageError(f'--backbone "{backbone}": expected one of {", ".join(names())}')
    if weights is None and backbone not in pretrained.NAMES:
        raise UsageError(f"--backbone {backbone} needs --weights: {FORMS}; or {RANDOM}, to compare with")
    if weights not in (None, RANDOM) and not Path(str(weights)).exists():
        raise UsageError(f"--weights {weights}: no such file or folder; give {FORMS}, or {RANDOM}")


def network(backbone: str, weights: str | None, shape: Shape) -> Callable[[int, bool], Any]:
    """Returns a builder of networks: a backbone behind its preprocessing, dropout and a last layer.

    The builder takes the number of classes and whether the backbone learns. Its batch normalisation keeps the
    statistics of its own training: those of a few pictures would undo it.

    Args:
        backbone: a name of `names`.
        weights: a run's folder, a file of weights or a model, a version's folder, or `RANDOM`; None: Keras's download,
            for a network of keras.applications.
        shape: the pictures.

    Raises:
        UsageError: an unknown name, missing weights, or a colour that does not fit.
    """
    check(backbone, weights)
    if backbone in pretrained.NAMES:
        features = partial(pretrained.features, backbone, weights, shape)
    else:
        recipe = next(each for each in _recipes() if each.name == backbone)
        features = partial(_of_recipe, recipe, str(weights), _check_colour(recipe, shape))
    return partial(_network, features, shape, weights == RANDOM)


FORMS = "a run's folder, its model.keras, a file .weights.h5, or a version's folder such as models/cifar10"


def _network(features: Callable[[], Any], shape: Shape, from_scratch: bool, classes: int, learns: bool) -> Any:
    layers = frameworks.load().keras.layers
    backbone = features()
    backbone.name = BACKBONE
    backbone.trainable = learns or from_scratch
    if not from_scratch:
        _keep_statistics(backbone)
    image = layers.Input(shape, dtype="uint8", name="image")
    pixels = _resized(image, shape, backbone.input_shape[1:])
    maps = backbone(pixels)
    if len(maps.shape) == 4:
        maps = layers.GlobalAveragePooling2D()(maps)
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")
    return frameworks.load().keras.Model(image, probabilities(layers.Dropout(_DROPOUT)(maps)), name="transfer")


def _keep_statistics(backbone: Any) -> None:
    """Keeps batch normalisation in inference mode, also while other weights learn.

    Keras does that for layers that do not learn. `training=False` in the call is not enough: `fit` overrides it.
    """
    normalization = frameworks.load().keras.layers.BatchNormalization
    for layer in backbone._flatten_layers():
        if isinstance(layer, normalization):
            layer.trainable = False


def _resized(image: Any, shape: Shape, wanted: Shape) -> Any:
    """Returns pictures in the size and colour of a backbone, float32 levels of 0 to 255."""
    layers = frameworks.load().keras.layers
    pixels = layers.Rescaling(1.0, dtype="float32", name="levels")(image)
    if shape[:2] != wanted[:2]:
        # Averaged first, because interpolation reads four pixels, whatever the reduction.
        factors = tuple(max(side // other, 1) for side, other in zip(shape[:2], wanted[:2], strict=True))
        if factors != (1, 1):
            pixels = layers.AveragePooling2D(factors, name="reduced")(pixels)
        if tuple(pixels.shape[1:3]) != wanted[:2]:
            pixels = layers.Resizing(*wanted[:2], name="resized")(pixels)
    if shape[2] < wanted[2]:
        pixels = layers.Concatenate(name="colours")([pixels] * wanted[2])
    return pixels


def _check_colour(recipe: KerasRecipe, shape: Shape) -> KerasRecipe:
    seen = image_shape(recipe.dataset)
    if seen is not None and shape[2] > seen[2]:
        raise UsageError(f"--backbone {recipe.name} sees grey pictures; give --grey, or another backbone")
    return recipe


def _recipes() -> Sequence[KerasRecipe]:
    # Imported here, because that package lists its modules, of which this is one.
    from . import of

    return [cast(KerasRecipe, each) for each in zoo.recipes() if of(each).learns_pictures and image_shape(each.dataset)]


def _of_recipe(recipe: KerasRecipe, weights: str, _: object = None) -> Any:
    """Returns a recipe's network without its last layer, with trained weights."""
    keras = frameworks.load().keras
    path = Path(weights)
    path = path / "model.keras" if (path / "model.keras").is_file() else path
    if weights == RANDOM:
        return _without_last(recipe.build(2))
    if path.suffix == ".keras":
        return _without_last(_loaded(path, recipe))
    if path.suffix == ".h5":
        features = _without_last(recipe.build(2))
        try:
            features.load_weights(path)
        except Exception as error:  # Keras and h5py raise half a dozen errors for weights that do not fit
            raise UsageError(f"--weights {path}: not the weights of {recipe.name} without its last layer") from error
        return features
    model = onnx_weights.read(recipe, path)
    return keras.Model(model.inputs[0], model.layers[-1].input)


def _loaded(path: Path, recipe: KerasRecipe) -> Any:
    try:
        return frameworks.load().keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras, h5py and zipfile raise a dozen errors for a file that is not a model
        raise UsageError(f"--weights {path}: cannot be read as a model of {recipe.name}; give {FORMS}") from error


def _without_last(model: Any) -> Any:
    """Returns a network without its last layer; that inside a run of `transfer` or of a network that mirrors."""
    keras = frameworks.load().keras
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if inner:
        return keras.Model(inner[0].inputs[0], inner[0].outputs[0])
    return keras.Model(model.inputs[0], model.layers[-1].input)
