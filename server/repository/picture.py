"""Which pictures a model accepts, from its config.pbtxt parameters `picture` and `inversion` and its graph."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from pixelserve.imaging.declaration import PICTURE, Input, parse, undeclared
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.words import DeclarationError, Inversion
from pixelserve.oip import model_config_pb2 as pb

from ..engine.scores import scores_output
from ..engine.tensors import FREE, TensorSpec
from ..errors import RepositoryError
from .compatibility import INVERSION
from .layout import ModelFolder
from .pbtxt import error_at

_INVERSIONS = get_args(Inversion)


@dataclass(frozen=True)
class Graph:
    """A model's tensors, from its graph and its config.pbtxt."""

    inputs: Sequence[TensorSpec]
    """Its inputs."""
    outputs: Sequence[TensorSpec]
    """Its outputs, with their labels if it has any."""
    batches: bool
    """Whether the first axis of each tensor is the batch."""


def read_pictures(folder: ModelFolder, config: pb.ModelConfig | None, graph: Graph) -> PictureSpec | None:
    """Returns which pictures a model accepts, or None.

    Without the parameter `picture`, a model with one uint8 input [rows, height, width, 1 or 3] accepts pictures.

    Raises:
        RepositoryError: the declaration is invalid or does not fit the model.
    """
    inversion = _inversion(config) or "never"
    taken = picture_input(graph)
    if config is None or PICTURE not in config.parameters:
        spec = undeclared(taken) if taken is not None and scores_output(graph.outputs) else None
        return None if spec is None else replace(spec, inversion=inversion)
    place, line = f'parameters["{PICTURE}"]', config.parameters[PICTURE].string_value
    if taken is None or scores_output(graph.outputs) is None:
        problem = (
            f"parameter {PICTURE} is for a model with one input and one output of class scores, or one that has "
            f"labels; this one has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        )
        raise error_at(folder.config_file, place, problem)
    try:
        spec = parse(line, taken)
    except DeclarationError as error:
        write = "" if error.write is None else _parameter(PICTURE, error.write)
        raise error_at(folder.config_file, place, f"parameter {PICTURE}: {error.problem}", write) from error
    if INVERSION not in config.parameters:
        return spec
    if f"{INVERSION}=" in line and spec.inversion != inversion:
        problem = f"parameter {PICTURE} has inversion={spec.inversion}, parameter {INVERSION} is {inversion}; keep one"
        raise error_at(folder.config_file, f'parameters["{INVERSION}"]', problem)
    return replace(spec, inversion=inversion)


def picture_problems(folder: ModelFolder, config: pb.ModelConfig) -> Iterator[RepositoryError]:
    """Yields the parameters' errors that do not depend on the graph."""
    path = folder.config_file
    if _inversion(config) is None:
        value = config.parameters[INVERSION].string_value
        problem = f'parameter {INVERSION} is "{value}"; expected one of {", ".join(_INVERSIONS)}'
        yield error_at(path, f'parameters["{INVERSION}"]', problem, _parameter(INVERSION, "never"))


def _inversion(config: pb.ModelConfig | None) -> Inversion | None:
    """Returns the parameter `inversion`, default never; None if it is invalid."""
    if config is None or INVERSION not in config.parameters:
        return "never"
    value = config.parameters[INVERSION].string_value
    return next((known for known in _INVERSIONS if value == known), None)


def picture_input(graph: Graph) -> Input | None:
    """Returns the only input, without its batch axis; None if there is not exactly one."""
    if len(graph.inputs) != 1:
        return None
    spec = graph.inputs[0]
    # Without a batch, the graph takes one picture per request.
    has_rows = graph.batches or spec.shape[:1] in ((1,), (FREE,))
    return Input(tuple(spec.shape[1:]), spec.datatype.dtype.name) if has_rows else None


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
