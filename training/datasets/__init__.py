"""The data sets of the recipes: public image sets, and small tables that need no download."""

from collections.abc import Callable
from pathlib import Path

from ..collected import collected
from ..errors import UsageError
from ..user_errors import calling
from .arrays import from_arrays
from .dataset import Array, Dataset, Source, Split, SplitName, Task, hold_out
from .folds import stratified_folds

__all__ = [
    "IMAGE_SHAPES",
    "NAMES",
    "Array",
    "Data",
    "Dataset",
    "Split",
    "SplitName",
    "Task",
    "from_arrays",
    "hold_out",
    "image_shape",
    "load",
    "stratified_folds",
]

_SOURCES: dict[str, Source] = {
    name: source for sources in collected(__name__, __path__, "SOURCES") for name, source in sources.items()
}

Data = str | Dataset | Callable[[], Dataset]
"""A data set: the name of a public one, or a user's own."""

NAMES = sorted(_SOURCES)
"""The data sets' names."""

IMAGE_SHAPES = {name: source.image_shape for name, source in _SOURCES.items() if source.image_shape}
"""Height, width and channels of image data sets, by name."""


def image_shape(data: Data) -> tuple[int, int, int] | None:
    """Returns the height, width and channels of a public image data set; None for others, and for a user's own data."""
    return IMAGE_SHAPES.get(data) if isinstance(data, str) else None


def load(data: Data, data_dir: Path | None) -> Dataset:
    """Loads a data set, by its name: official files in `data_dir`, else through Keras's downloader and its cache.

    Tables come with the project or a library, and own data from its function; `data_dir` does not matter for them.

    Raises:
        UsageError: there is no data set of that name, a function returned something else, or `data_dir` is not a
            folder.
        DataError: a file is missing or damaged, or there are none and Keras cannot download them.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(
            f"--data-dir {data_dir}: no such folder; give the one that holds the data sets' official files, "
            f"or omit it to download them with Keras"
        )
    if not isinstance(data, str):
        found = data if isinstance(data, Dataset) else _made(data)
        if not isinstance(found, Dataset):
            raise UsageError(f"a recipe's own data is a {type(found).__name__}; expected a Dataset, as by from_arrays")
        return found
    if data not in _SOURCES:
        raise UsageError(f'there is no data set "{data}"; there are: {", ".join(NAMES)}')
    return _SOURCES[data].load(data_dir)


def _made(function: Callable[[], Dataset]) -> object:
    with calling(function, "the recipe's data"):
        return function()
