"""Finds whether a model scales pixels itself, from its first nodes.

Tutorials put Rescaling(1/255), Normalization or an application's preprocess_input into the model. Its float input is
then a cast of raw pixels. The graph shows this for layers, nested models and SavedModels alike.
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
    """A linear scaling of every input value: multiplied by `gain`, then `offset` added."""

    gain: float
    offset: float

    @property
    def is_of_pixels(self) -> bool:
        """Whether it scales pixels of 0 to 255 to a usual training range.

        Usual are 0 to 1, -1 to 1 and the like, a mean of 0 with a variance of 1, or a mean of 0 alone.
        """
        if self.gain == 0:
            return False
        # The pixel value that becomes 0, and the distance that becomes 1.
        mean, deviation = -self.offset / self.gain, 1 / abs(self.gain)
        if 64 <= deviation <= 256:
            return -1 <= mean <= 256
        if 8 <= deviation < 64:
            return 8 <= mean <= 247
        return deviation == 1 and 90 <= mean <= 150

    @property
    def is_of_nothing_else(self) -> bool:
        """Whether it maps exactly 0 to 255 or 256 to 0 to 1 or -1 to 1, which is used for pixels only."""
        ends = [round(self.offset + self.gain * white, 3) for white in (0, 255)]
        wider = [round(self.offset + self.gain * white, 3) for white in (0, 256)]
        return any(found in ([0, 1], [-1, 1]) for found in (ends, wider))


def find(graph: GraphProto) -> Scaling | None:
    """Returns the scaling of a graph's only input by the next nodes; None if they differ, or do not scale."""
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
    if not computing:  # an output, or an input of a loop's body
        yield scaling
    for node in computing:
        step = _step(node, name, scaling, constants)
        if step is None:
            yield scaling
        else:
            yield from _ends(node.output[0], step, users, constants)


def _step(node: NodeProto, name: str, before: Scaling, constants: Mapping[str, TensorProto]) -> Scaling | None:
    """Returns the scaling of a node, or None for other operations."""
    if node.op_type in _SAME_NUMBERS:
        return before if node.input[0] == name else None
    if node.op_type == "Concat":  # of channels in a different order
        return before
    if node.op_type not in _ARITHMETIC:
        return None
    first, second = node.input
    is_first = first == name
    constant = constants.get(second if is_first else first)
    if constant is None or (node.op_type == "Div" and not is_first):
        return None
    # Channels differ little; the middle one represents all.
    value = float(np.median(numpy_helper.to_array(constant)))
    gain, offset = before.gain, before.offset
    if node.op_type == "Add":
        return Scaling(gain, offset + value)
    if node.op_type == "Sub":
        return Scaling(gain, offset - value) if is_first else Scaling(-gain, value - offset)
    factor = value if node.op_type == "Mul" else 1 / value if value else 0.0
    return Scaling(gain * factor, offset * factor)
