"""A folder that is itself one model or one version, as a repository with that model (--model-name).

KServe's storage initializer copies what storageUri names to /mnt/models: a repository, a model's folder, a version's
folder or an .onnx file. The repository consists of links in a folder for temporary files; files stay where they are.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import text_format

from pixelserve.text import CONFIG_BYTES, TextError, read_text

from ..errors import RepositoryError
from .layout import CONFIG_FILE, DEFAULT_MODEL_FILE, is_version, survey
from .pbtxt import parse
from .temporary import TemporaryFolder


@contextlib.contextmanager
def as_repository(folder: Path, name: str | None) -> Iterator[Path]:
    """Yields the repository to serve: `folder` itself, or links that make it the model `name`.

    Args:
        folder: what --model-repository names.
        name: what --model-name names; None: `folder` is a repository.

    Raises:
        RepositoryError: it is not clear which file is the model, or no temporary folder can be written.
    """
    if name is None or _is_repository(folder) or not (_has_versions(folder) or _graphs(folder)):
        yield folder
        return
    try:
        temporary = TemporaryFolder.make()
    except OSError as error:
        raise RepositoryError(
            f"--model-name {name}: the system's folder for temporary files cannot be written: "
            f"{error.strerror or error}; mount a writable /tmp, or set TMPDIR"
        ) from error
    try:
        # Not resolved: KServe's modelcar links to /proc/PID/root/models, which would become this container's /models.
        _link(folder.absolute(), temporary.path / name)
        yield temporary.path
    finally:
        temporary.remove()


def _is_repository(folder: Path) -> bool:
    try:
        return bool(survey(folder).models)
    except RepositoryError:
        return False


def _has_versions(folder: Path) -> bool:
    return any(is_version(each.name) and each.is_dir() for each in _entries(folder))


def _graphs(folder: Path) -> list[str]:
    """Returns the names of the ONNX files in a folder; only model.onnx if it is one of them."""
    names = sorted(each.name for each in _entries(folder) if each.suffix == ".onnx")
    return [DEFAULT_MODEL_FILE] if DEFAULT_MODEL_FILE in names else names


def _entries(folder: Path) -> list[Path]:
    try:
        return [each for each in folder.iterdir() if not each.name.startswith(".")]
    except OSError:
        # The repository's survey says what is wrong.
        return []


def _link(folder: Path, model: Path) -> None:
    """Makes the model's folder, of links to the entries of `folder`."""
    model.mkdir()
    for entry in _entries(folder):
        if entry.name != CONFIG_FILE:
            (model / entry.name).symlink_to(entry)
    config = _config(folder / CONFIG_FILE, model.name)
    if not _has_versions(folder):
        # The version's files, with weights beside the graph, are those of the folder.
        (model / "1").symlink_to(folder)
        config = config or _named_graph(folder)
    if config is not None:
        (model / CONFIG_FILE).write_text(config, encoding="utf-8")


def _config(path: Path, name: str) -> str | None:
    """Returns the text of config.pbtxt, under the model's new name; None: it does not exist."""
    try:
        text = read_text(path, CONFIG_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, TextError) as error:
        raise RepositoryError(f"{path}: cannot be read: {error}") from error
    config, _ = parse(path, text)
    # With mistakes in it, the text stays as it is, for their lines.
    if config is None or config.name in ("", name):
        return text
    config.name = name
    return text_format.MessageToString(config, as_utf8=True)


def _named_graph(folder: Path) -> str | None:
    """Returns a configuration that names the only graph; None: it is model.onnx.

    Raises:
        RepositoryError: there are several.
    """
    graphs = _graphs(folder)
    if len(graphs) > 1:
        raise RepositoryError(
            f"{folder} holds {len(graphs)} models: {', '.join(graphs[:5])}; rename the one to serve to "
            f"{DEFAULT_MODEL_FILE}, or name it in a {CONFIG_FILE} beside it, such as {_naming(graphs[0])}"
        )
    return None if graphs == [DEFAULT_MODEL_FILE] else _naming(graphs[0]) + "\n"


def _naming(graph: str) -> str:
    return f"default_model_filename: {json.dumps(graph)}"
