"""Imports TensorFlow, Keras and tf2onnx on first use, and suppresses their messages."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from .errors import MissingLibraryError

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_STDERR = 2


@dataclass(frozen=True)
class Frameworks:
    """The imported libraries."""

    tf: Any
    """The module tensorflow."""
    keras: Any
    """The module keras, on TensorFlow."""


@cache
def load() -> Frameworks:
    """Imports TensorFlow and Keras on the first call, which takes seconds.

    TensorFlow's C++ log is silent unless the environment sets TF_CPP_MIN_LOG_LEVEL.

    Raises:
        MissingLibraryError: one of them is not installed.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if _LOG_LEVEL in os.environ:
        return _load()
    os.environ[_LOG_LEVEL] = "3"
    with silent_stderr():
        return _load()


def load_tf2onnx() -> Any:
    """Imports tf2onnx.

    Raises:
        MissingLibraryError: it is not installed.
    """
    load()
    with named_where_missing():
        import tf2onnx
    # Its logged errors are detected in its result and reported in one sentence.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    return tf2onnx


def load_mlflow() -> Any:
    """Imports MLflow's client, without its telemetry.

    Raises:
        MissingLibraryError: it is not installed.
    """
    # MLflow reports its use to its makers unless this is set before its import.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with named_where_missing("mlflow"):
        import mlflow
        import sqlalchemy  # noqa: F401  MLflow imports it for a local store only then
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def check_tensorboard() -> None:
    """Checks that TensorBoard is installed.

    Raises:
        MissingLibraryError: it is not installed.
    """
    with named_where_missing():
        import tensorboard  # noqa: F401


def _load() -> Frameworks:
    with named_where_missing():
        import keras
        import tensorflow as tf
    tf.get_logger().setLevel(logging.ERROR)
    return Frameworks(tf=tf, keras=keras)


@contextlib.contextmanager
def named_where_missing(extra: str = "training") -> Iterator[None]:
    """Reports which library is missing, and the extra to install, if an import in the block fails.

    Raises:
        MissingLibraryError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"this needs the library {error.name}; in PixelServe's clone run: pip install -e '.[{extra}]'"
        ) from error


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Suppresses what native code writes to stderr, but shows it if the block fails.

    TensorFlow prints banners before its log level takes effect.
    """
    sys.stderr.flush()
    original = os.dup(_STDERR)
    with tempfile.TemporaryFile() as swallowed:
        os.dup2(swallowed.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            swallowed.seek(0)
            os.write(original, swallowed.read())
            raise
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
