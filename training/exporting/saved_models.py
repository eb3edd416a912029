"""Loads SavedModel folders, including those compiled and fitted by older TensorFlow versions."""

import tempfile
from pathlib import Path
from typing import Any

from .. import frameworks
from ..errors import SourceError
from .reasons import reason_of

FILE = "saved_model.pb"


def load(path: Path) -> Any:
    """Loads a SavedModel for its signatures.

    Raises:
        SourceError: TensorFlow cannot load it.
    """
    tf = frameworks.load().tf
    try:
        with tempfile.TemporaryDirectory(prefix="pixelserve-") as folder:
            return tf.saved_model.load(str(_without_slots(path, Path(folder))))
    except Exception as error:  # TensorFlow and protobuf raise a dozen types
        raise SourceError(f"{path}: TensorFlow {tf.__version__} cannot load it: {reason_of(error)}") from error


def _without_slots(path: Path, folder: Path) -> Path:
    """Returns a copy of a SavedModel without its optimizer's slots; the other files are links.

    Before Keras 2.11, optimizers had a slot per weight, such as its momentum. To restore slots, TensorFlow needs the
    optimizer's class, which Keras 3 does not have.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / FILE).read_bytes())
    optimizers = [
        node for graph in saved.meta_graphs for node in graph.object_graph_def.nodes if len(node.slot_variables)
    ]
    if not optimizers:
        return path
    for node in optimizers:
        node.ClearField("slot_variables")
    for entry in path.resolve().iterdir():
        if entry.name != FILE:
            (folder / entry.name).symlink_to(entry)
    (folder / FILE).write_bytes(saved.SerializeToString())
    return folder
