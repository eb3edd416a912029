"""Loads whole models saved by Keras 3 or 2, .keras and .h5; its errors say what other files lack."""

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import frameworks
from ..errors import SourceError
from . import keras2, keras2_ops
from .reasons import reason_of

_NO_MODEL = (
    "holds weights without their network: build the network in Python as for training, call "
    "model.load_weights on it, save it whole with model.save('model.keras'), and export that file"
)
SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = (".h5", ".hdf5")
_CONFIG = "config.json"
_METADATA = "metadata.json"
_OLDER = ("1.", "2.")


def check_whole(path: Path) -> None:
    """Checks that a path does not hold weights only: a .weights.h5 file or a TensorFlow checkpoint.

    Raises:
        SourceError: it does.
    """
    checkpoint = path.with_name(f"{path.name}.index")
    if checkpoint.is_file() or (path.is_file() and path.suffix == ".index") or (path / "checkpoint").is_file():
        raise SourceError(f"{path} is a checkpoint, which {_NO_MODEL}")
    if path.is_file() and path.suffix.lower() in _HDF5 and _h5py().is_hdf5(path):
        with _h5py().File(path) as file:
            if "model_config" not in file.attrs:
                raise SourceError(f"{path} {_NO_MODEL}")


def load(path: Path) -> Any:
    """Loads a .keras or .h5 file as an uncompiled model.

    Raises:
        SourceError: Keras cannot load it.
    """
    keras = frameworks.load().keras
    saved_by = ""
    try:
        saved_by = _saved_by(path)
        if not saved_by.startswith(_OLDER):
            return keras.saving.load_model(path, compile=False)
        with _translated(path, keras.layers) as file, keras.saving.custom_object_scope(keras2_ops.custom_objects()):
            return keras.saving.load_model(file, compile=False)
    except Exception as error:  # zipfile, h5py, Keras and TensorFlow raise a dozen types
        raise SourceError(
            f"{path}: Keras {keras.__version__} cannot load it: {reason_of(error)}{_remedy(error, saved_by)}"
        ) from error


def _h5py() -> Any:
    with frameworks.named_where_missing():
        import h5py
    return h5py


def _saved_by(path: Path) -> str:
    """Returns the Keras version that saved a file; empty if unknown."""
    if path.suffix.lower() in _HDF5:
        with _h5py().File(path) as file:
            version = file.attrs.get("keras_version", "1.")
        return version.decode() if isinstance(version, bytes) else str(version)
    with zipfile.ZipFile(path) as archive:
        return str(json.loads(archive.read(_METADATA)).get("keras_version", ""))


@contextmanager
def _translated(path: Path, layers: Any) -> Iterator[Path]:
    """Copies a Keras 2 file, with its configuration converted to Keras 3."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-") as folder:
        copy = Path(folder) / path.name
        if path.suffix.lower() in _HDF5:
            shutil.copyfile(path, copy)
            with _h5py().File(copy, "r+") as file:
                config = json.loads(file.attrs["model_config"])
                file.attrs["model_config"] = json.dumps(keras2.translate(config, layers))
        else:
            _translate_archive(path, copy, layers)
        yield copy


def _translate_archive(path: Path, copy: Path, layers: Any) -> None:
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as target:
        for entry in archive.infolist():
            if entry.filename != _CONFIG:
                with archive.open(entry) as source, target.open(entry.filename, "w", force_zip64=True) as sink:
                    shutil.copyfileobj(source, sink)
        config = keras2.translate(json.loads(archive.read(_CONFIG)), layers)
        # The outermost object of this format names its class's module.
        module = {"Functional": "keras.src.models.functional", "Sequential": "keras.models"}
        config["module"] = module.get(config["class_name"])
        target.writestr(_CONFIG, json.dumps(config))


def _remedy(error: Exception, saved_by: str) -> str:
    if re.search("Could not locate|Unknown|Unrecognized keyword|Lambda|Unable to revive", str(error)) is None:
        return ""
    if saved_by.startswith(_OLDER):
        return (
            f"; it may use custom layers, or layers that Keras 3 has dropped: load it with the TensorFlow that "
            f"saved it (Keras {saved_by}), save it there with tf.saved_model.save(model, 'FOLDER'), and export FOLDER"
        )
    return (
        "; the file does not contain the code of custom layers: load it where that code is, save it there with "
        "model.export('FOLDER'), and export FOLDER"
    )
