"""The data sets of the recipes: public image sets, and small tables that need no download."""

from pathlib import Path

from ..collected import collected
from ..errors import UsageError
from .dataset import Array, Dataset, Source, Split, Task, hold_out
from .folds import stratified_folds

__all__ = ["IMAGE_SHAPES", "NAMES", "Array", "Dataset", "Split", "Task", "hold_out", "load", "stratified_folds"]

_SOURCES: dict[str, Source] = {
    name: source for sources in collected(__name__, __path__, "SOURCES") for name, source in sources.items()
}

NAMES = sorted(_SOURCES)
"""The data sets' names."""

IMAGE_SHAPES = {name: source.image_shape for name, source in _SOURCES.items() if source.image_shape}
"""Height, width and channels of image data sets, by name."""


def load(name: str, data_dir: Path | None) -> Dataset:
    """Loads a data set from its official files in `data_dir`, else through Keras's downloader and its cache.

    Tables come with the project or a library; `data_dir` does not matter for them.

    Raises:
        UsageError: `data_dir` is not a folder.
        DataError: a file is missing or damaged, or there are none and Keras cannot download them.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(
            f"--data-dir {data_dir}: no such folder; give the one that holds the data sets' official files, "
            f"or omit it to download them with Keras"
        )
    return _SOURCES[name].load(data_dir)
