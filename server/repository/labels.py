"""The label files that config.pbtxt names: one class label a line."""

from pixelserve.scores import is_single_unit
from pixelserve.text import LABELS_BYTES, TextError, read_lines

from ..engine.tensors import FREE, TensorSpec
from ..errors import RepositoryError, unreadable
from .layout import ModelFolder, is_plain

# Answers and metrics repeat a class's label.
_LABEL_LENGTH = 1000


class LabelFiles:
    """The label files of one model, each read once however many outputs name it."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._read: dict[str, tuple[str, ...]] = {}

    def labels(self, file_name: str, spec: TensorSpec | None) -> tuple[str, ...]:
        """Returns the labels of an output; `spec` is None for an output that the graph does not have.

        Raises:
            RepositoryError: the file cannot be read, or has another number of labels than the output has classes.
        """
        if file_name not in self._read:
            self._read[file_name] = self._labels(file_name)
        labels = self._read[file_name]
        classes = _classes(spec.shape) if spec is not None else FREE
        if spec is not None and classes not in (FREE, len(labels)) and not is_single_unit(classes, len(labels)):
            problem = f"{len(labels)} labels; {spec.name} has {classes} classes, one label a line each"
            raise RepositoryError(problem, path=self._folder.path / file_name)
        return labels

    def _labels(self, file_name: str) -> tuple[str, ...]:
        path = self._folder.path / file_name
        # A name that leads out of the model's folder is a mistake or an attack; Kubernetes mounts files as links.
        if not is_plain(file_name):
            problem = f"label_filename {file_name} is not a file beside config.pbtxt"
            raise RepositoryError(problem, path=self._folder.config_file, write='label_filename: "labels.txt"')
        try:
            labels = read_lines(path, LABELS_BYTES)
        except (OSError, TextError) as error:
            raise unreadable(path, error, "one class label a line") from error
        for number, label in enumerate(labels, 1):
            if len(label) > _LABEL_LENGTH:
                problem = f"has {len(label):,} characters; a label has at most {_LABEL_LENGTH:,}"
                raise RepositoryError(problem, path=path, line=number)
        return labels


def _classes(shape: tuple[int, ...]) -> int:
    """Returns an output's number of classes: its last dimension, ignoring trailing ones, as in [1, N, 1, 1]."""
    while len(shape) > 1 and shape[-1] == 1 and shape[:-1] != (FREE,):
        shape = shape[:-1]
    return shape[-1] if shape else FREE
