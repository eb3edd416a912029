"""Well-known networks with random weights: load time depends on the layers, not on the weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 1000
SIDE = 224
# Expansion, channels, layers, stride of the first, and kernel of each stage, from the papers' tables.
_MOBILENET_V2 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)
_EFFICIENTNET_B0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def write_mobilenet_v2(path: Path) -> None:
    """Writes MobileNetV2: x [n, 3, 224, 224] → y [n, 1000], 3.5 million weights."""
    _write(path, _MOBILENET_V2, excites=False)


def write_efficientnet_b0(path: Path) -> None:
    """Writes EfficientNetB0: the same tensors, 5.3 million weights; swish, and squeeze-and-excite in every layer."""
    _write(path, _EFFICIENTNET_B0, excites=True)


def _write(path: Path, stages: tuple[tuple[int, int, int, int, int], ...], *, excites: bool) -> None:
    network = _Network(swish=excites)
    at, channels = network.convolution("x", 3, 32, 3, stride=2), 32
    for expansion, width, layers, stride, kernel in stages:
        for layer in range(layers):
            before, inner = at, channels * expansion
            if expansion > 1:
                at = network.convolution(at, channels, inner, 1)
            at = network.convolution(at, inner, inner, kernel, stride=1 if layer else stride, groups=inner)
            if excites:
                at = network.excite(at, inner, channels // 4)
            at = network.convolution(at, inner, width, 1, is_linear=True)
            at = network.node("Add", before, at) if layer else at
            channels = width
    at = network.convolution(at, channels, 1280, 1)
    at = network.node("Flatten", network.node("GlobalAveragePool", at))
    at = network.node("Gemm", at, network.weights(1280, CLASSES, spread=0.03), network.weights(CLASSES, spread=0))
    network.nodes.append(helper.make_node("Softmax", [at], ["y"]))
    network.save(path)


class _Network:
    """Builds a graph from its input."""

    def __init__(self, *, swish: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._swish = swish
        self._random = np.random.default_rng(0)
        self._initializers = [numpy_helper.from_array(np.float32(value), str(value)) for value in (0, 6)]

    def weights(self, *shape: int, spread: float) -> str:
        name = f"w{len(self._initializers)}"
        values = (self._random.standard_normal(shape) * spread).astype(np.float32)
        self._initializers.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def convolution(
        self, at: str, taken: int, given: int, kernel: int, *, stride: int = 1, groups: int = 1, is_linear: bool = False
    ) -> str:
        taken //= groups
        weights = self.weights(given, taken, kernel, kernel, spread=(2 / (kernel * kernel * taken)) ** 0.5)
        shape = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        at = self.node("Conv", at, weights, self.weights(given, spread=0), **shape)
        if is_linear:
            return at
        return self.node("Mul", at, self.node("Sigmoid", at)) if self._swish else self.node("Clip", at, "0", "6")

    def excite(self, at: str, channels: int, inner: int) -> str:
        squeezed = self.convolution(self.node("GlobalAveragePool", at), channels, inner, 1)
        return self.node(
            "Mul", at, self.node("Sigmoid", self.convolution(squeezed, inner, channels, 1, is_linear=True))
        )

    def save(self, path: Path) -> None:
        given = [("x", ["n", 3, SIDE, SIDE]), ("y", ["n", CLASSES])]
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given)
        graph = helper.make_graph(self.nodes, path.parent.parent.name, [x], [y], self._initializers)
        path.parent.mkdir(parents=True)
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
