"""Finds out whether a model scales pixels itself: what its first nodes do to numbers from 0 to 255.

Tutorials put Rescaling(1/255), Normalization or an application's preprocess_input into the model. It then takes floats,
which a picture's pixels become by a cast alone. The graph shows it alike for layers, nested models and SavedModels.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

_SAME_NUMBERS = ("Cast", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_ARITHMETIC = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class Scaling:
    """What is done to every number of an input: multiplied by `gain`, then `offset` added."""

    gain: float
    offset: float

    @property
    def is_of_pixels(self) -> bool:
        """Whether it brings pixels of 0 to 255 to the numbers that networks learn from.

        To 0 to 1 or -1 to 1 and the like, to a mean of 0 and a variance of 1, or to a mean of 0 alone.
        """
        if self.gain == 0:
            return False
        # The pixel that becomes 0, and how many pixels become 1.
        mean, deviation = -self.offset / self.gain, 1 / abs(self.gain)
        if 64 <= deviation <= 256:
            return -1 <= mean <= 256
        if 8 <= deviation < 64:
            return 8 <= mean <= 247
        return deviation == 1 and 90 <= mean <= 150

    @property
    def is_of_nothing_else(self) -> bool:
        """Whether it brings exactly 0 to 255 or 256 to 0 to 1 or -1 to 1, which is done to nothing but pixels."""
        ends = [round(self.offset + self.gain * white, 3) for white in (0, 255)]
        wider = [round(self.offset + self.gain * white, 3) for white in (0, 256)]
        return any(found in ([0, 1], [-1, 1]) for found in (ends, wider))


def find(graph: GraphProto) -> Scaling | None:
    """Returns how the nodes behind a graph's only input scale it; None: they do not agree, or nothing is scaled."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    users = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            users[name].append(node)
    found = set(_ends(graph.input[0].name, Scaling(1.0, 0.0), users, constants))
    return found.pop() if len(found) == 1 else None


def _ends(
    name: str, scaling: Scaling, users: Mapping[str, list[NodeProto]], constants: Mapping[str, TensorProto]
) -> Iterator[Scaling]:
    computing = [node for node in users[name] if node.op_type != "Shape"]
    if not computing:  # an output, or what the body of a loop takes
        yield scaling
    for node in computing:
        step = _step(node, name, scaling, constants)
        if step is None:
            yield scaling
        else:
            yield from _ends(node.output[0], step, users, constants)


def _step(node: NodeProto, name: str, before: Scaling, constants: Mapping[str, TensorProto]) -> Scaling | None:
    """Returns the scaling behind a node; None: it computes something else."""
    if node.op_type in _SAME_NUMBERS:
        return before if node.input[0] == name else None
    if node.op_type == "Concat":  # of channels in another order
        return before
    if node.op_type not in _ARITHMETIC:
        return None
    first, second = node.input
    is_first = first == name
    constant = constants.get(second if is_first else first)
    if constant is None or (node.op_type == "Div" and not is_first):
        return None
    # Channels differ by little; the middle one stands for all.
    value = float(np.median(numpy_helper.to_array(constant)))
    gain, offset = before.gain, before.offset
    if node.op_type == "Add":
        return Scaling(gain, offset + value)
    if node.op_type == "Sub":
        return Scaling(gain, offset - value) if is_first else Scaling(-gain, value - offset)
    factor = value if node.op_type == "Mul" else 1 / value if value else 0.0
    return Scaling(gain * factor, offset * factor)
