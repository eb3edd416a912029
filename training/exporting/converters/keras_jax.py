"""Converts by Keras's own ONNX export on JAX (jax2onnx), in a Python environment of its own.

Keras chooses its backend once per process, and jax2onnx brings 40 packages, so neither belongs in the environment that
trains. The function travels there as a .keras file: `Signature.call` also accepts Keras's symbolic tensors.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import GraphProto

from ... import frameworks
from ...errors import MissingLibraryError, SourceError
from ..reasons import reason_of
from ..signature import Signature
from .base import Conversion, Converted
from .pooling import pool_images

NAME = "keras-jax"
_SCRIPT = Path(__file__).with_name("on_jax.py")


class KerasJax:
    """See `base.Converter`."""

    # From the first that has all operators that jax2onnx writes, to its newest.
    opsets = range(18, 24)
    default_opset = 18

    def convert(self, signature: Signature, conversion: Conversion, *, opset: int, source: str) -> Converted:
        """See `base.Converter`; MissingLibraryError: the environment does not exist.

        Raises:
            SourceError: it is a SavedModel, or Keras cannot convert it on JAX.
        """
        return convert_all({source: signature}, conversion, opset=opset)[source]


CONVERTER = KerasJax()


def convert_all(signatures: Mapping[str, Signature], conversion: Conversion, *, opset: int) -> dict[str, Converted]:
    """Converts functions, by their names in errors, in one process, whose start takes seconds.

    Raises:
        MissingLibraryError: the environment does not exist.
        SourceError: one is a SavedModel, or Keras cannot convert it on JAX.
    """
    python = _python(conversion.jax_python)
    with tempfile.TemporaryDirectory(prefix="pixelserve-") as root:
        folders = {source: Path(root) / str(number) for number, source in enumerate(signatures)}
        for source, folder in folders.items():
            folder.mkdir()
            _save(signatures[source], folder / "model.keras", source=source)
        made_with = _run(python, list(folders.values()), opset, source=" and ".join(signatures))
        models = {source: onnx.load(folder / "model.onnx") for source, folder in folders.items()}
    for source, model in models.items():
        _name_outputs(model.graph, signatures[source].outputs)
        pool_images(model)
    return {source: Converted(model, made_with) for source, model in models.items()}


def _python(chosen: Path | None) -> Path:
    """Returns Python of the environment that holds JAX."""
    python = chosen or Path(sys.prefix) / "jax" / "bin" / "python"
    if not python.is_file():
        raise MissingLibraryError(
            f"--converter {NAME} needs an environment with JAX, and {python} does not exist; in PixelServe's clone run "
            f"make .venv/stamps/jax, elsewhere python -m venv jax && jax/bin/pip install -e '.[{NAME}]' and give "
            f"--jax-python jax/bin/python"
        )
    return python


def _save(signature: Signature, path: Path, *, source: str) -> None:
    """Writes a function as a .keras file whose outputs are a dictionary by name."""
    keras = frameworks.load().keras
    try:
        tensor = keras.Input(
            signature.shape[1:], batch_size=signature.shape[0], dtype=signature.dtype, name=signature.input_name
        )
        keras.Model(tensor, signature.call(tensor), name="exported").save(path)
    except Exception as error:  # layers raise anything, and so do the functions of a SavedModel
        raise SourceError(
            f"{source}: --converter {NAME} needs a model whose layers Keras can save: {reason_of(error)}; "
            f"omit the option"
        ) from error


def _run(python: Path, folders: Sequence[Path], opset: int, *, source: str) -> Mapping[str, str]:
    """Converts model.keras in each folder to model.onnx; returns the versions of the libraries."""
    # Only what Python needs: no setting of this process's Keras, and no path to its packages.
    environment = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "PATH", "TMPDIR")}
    ran = subprocess.run(  # noqa: S603 - the user's own Python, with our script
        [python, "-I", _SCRIPT, str(opset), *folders],
        env=environment | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    last = (ran.stdout.strip().splitlines() or [""])[-1]
    if ran.returncode != 0 or not last.startswith("{"):
        why = (ran.stderr.strip().splitlines() or [f"it ended with exit code {ran.returncode}"])[-1]
        raise SourceError(f"{source}: Keras cannot convert it on JAX: {why}; use --converter tf2onnx")
    versions: dict[str, str] = json.loads(last)
    return versions


def _name_outputs(graph: GraphProto, names: Sequence[str]) -> None:
    """Names a graph's outputs, which jax2onnx names after their last operation, and orders them."""
    # Keras sorts the outputs of a dictionary.
    renamed = {output.name: name for output, name in zip(graph.output, sorted(names), strict=True)}
    for node in graph.node:
        node.input[:] = [renamed.get(each, each) for each in node.input]
        node.output[:] = [renamed.get(each, each) for each in node.output]
    for value in (*graph.output, *graph.value_info):
        value.name = renamed.get(value.name, value.name)
    ordered = sorted(graph.output, key=lambda output: names.index(output.name))
    del graph.output[:]
    graph.output.extend(ordered)
