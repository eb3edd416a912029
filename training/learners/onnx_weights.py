"""Reads the weights of an exported network back into its recipe's network, and proves that they compute the same.

An export folds batch normalisation into convolutions, but for a shift between a pooling and a SiLU
(`exporting.folding`), and not into dense layers. So the kernels are taken with all factors and shifts that follow, and
the normalisation after each passes its input on, plus the bias.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from .. import frameworks
from ..datasets import Array
from ..errors import SourceError, UsageError
from ..recipe import KerasRecipe
from ..runtime import OnnxModel

_FILE = "model.onnx"
_PROVEN_ON = 4
_TOLERANCE = 1e-3


def read(recipe: KerasRecipe, path: Path) -> Any:
    """Returns a recipe's network with the weights of an exported version.

    Args:
        recipe: the recipe that the version was trained by.
        path: a model.onnx, its version's folder, or its model's folder, of which the highest version is read.

    Raises:
        UsageError: there is no such file, or it does not compute what the recipe's network computes with its weights.
    """
    file = _find(path)
    try:
        graph = onnx.load(file).graph
        served = OnnxModel(file.read_bytes(), source=str(file))
    except (OSError, SourceError, ValueError, onnx.onnx_cpp2py_export.checker.ValidationError) as error:
        raise UsageError(f"--weights {file}: cannot be read: {error}") from error
    kernels = _kernels(graph)
    model = recipe.build(kernels[-1][0].shape[-1] if kernels else 2)
    if not _assigned(model, kernels) or not _computes(model, recipe, served):
        raise UsageError(
            f"--weights {file}: its weights are not those of the network of {recipe.name}, or were "
            f"exported as int8 or by another converter than tf2onnx; give the folder of a run of that recipe"
        )
    return model


def _find(path: Path) -> Path:
    versions = sorted((int(each.name) for each in path.iterdir() if each.name.isdecimal()) if path.is_dir() else ())
    candidates = [path, path / _FILE, *(path / str(version) / _FILE for version in versions[-1:])]
    file = next((each for each in candidates if each.is_file() and each.suffix == ".onnx"), None)
    if file is None:
        raise UsageError(
            f"--weights {path}: holds neither model.keras nor {_FILE}; give a run's folder or a version's folder"
        )
    return file


def _kernels(graph: Any) -> list[tuple[Array, Array]]:
    """Returns the kernels in Keras's order of axes, each with its bias, in the order of the graph, each once."""
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    users = {node.input[0]: node for node in graph.node if node.op_type in ("MaxPool", "Mul", "Add")}
    found: dict[str, tuple[Array, Array]] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm") or len(node.input) < 2 or node.input[1] not in stored:
            continue
        kernel = stored[node.input[1]]
        if node.op_type == "Conv":
            kernel = kernel.transpose(2, 3, 1, 0)
        elif any(each.name == "transB" and each.i for each in node.attribute):
            kernel = kernel.T
        scale, shift = _normalization(node, users, stored, kernel.shape[-1])
        found.setdefault(node.input[1], (kernel * scale, shift))
    return list(found.values())


def _normalization(node: Any, users: Mapping[str, Any], stored: Mapping[str, Array], channels: int) -> tuple[Any, Any]:
    """Returns the factor and the shift of each channel, float32 [channels], in a layer and the nodes after it."""
    scale, shift = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if len(node.input) > 2 and node.input[2] in stored:
        shift = stored[node.input[2]]
    after = users.get(node.output[0])
    while after is not None:
        if after.op_type != "MaxPool":
            constant = stored.get(after.input[1])
            if constant is None or constant.size not in (1, channels):
                break
            if after.op_type == "Mul":
                scale, shift = scale * constant.reshape(-1), shift * constant.reshape(-1)
            else:
                shift = shift + constant.reshape(-1)
        after = users.get(after.output[0])
    return scale, shift


def _assigned(model: Any, kernels: list[tuple[Array, Array]]) -> bool:
    """Sets a network's weights; returns False if they do not fit."""
    layers = frameworks.load().keras.layers
    with_kernels = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.Dense)]
    shapes = [tuple(layer.kernel.shape) for layer in with_kernels]
    if shapes != [kernel.shape for kernel, _ in kernels]:
        return False
    biases = {}
    for layer, (kernel, bias) in zip(with_kernels, kernels, strict=True):
        layer.kernel.assign(kernel)
        if layer.use_bias:
            layer.bias.assign(bias)
        else:
            biases[layer.name] = bias
    last = None
    for layer in model.layers:
        last = layer if layer in with_kernels else last
        if isinstance(layer, layers.BatchNormalization) and last is not None:
            _pass_through(layer, biases.get(last.name))
    return True


def _pass_through(layer: Any, bias: Array | None) -> None:
    for variable in (layer.beta, layer.moving_mean, layer.gamma):
        if variable is not None:
            variable.assign(np.full(variable.shape, variable is layer.gamma, np.float32))
    layer.moving_variance.assign(np.full(layer.moving_variance.shape, 1 - layer.epsilon, np.float32))
    if bias is not None and layer.beta is not None:
        layer.beta.assign(bias)


def _computes(model: Any, recipe: KerasRecipe, served: OnnxModel) -> bool:
    """Returns whether a network and an exported file give the same probabilities for made-up pictures."""
    from .mirroring import mirrored

    whole = mirrored(model) if recipe.mirrored else model
    pictures = np.random.default_rng(0).integers(0, 256, (_PROVEN_ON, *model.input_shape[1:]), np.uint8)
    tensor = served.inputs[0]
    if served.sample_shape(tensor) != pictures.shape[1:] or tensor.dtype != np.uint8:
        return False
    expected = served.run({tensor.name: pictures})[served.outputs[0].name]
    found = np.asarray(whole.predict(pictures, verbose=0))
    return found.shape == expected.shape and float(np.abs(found - expected).max()) <= _TOLERANCE
