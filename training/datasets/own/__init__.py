"""A user's own pictures as a data set: a folder with one subfolder per class, a CSV file, or an .npz file."""

from pathlib import Path

from pixelserve.imaging.spec import PictureSpec

from ...errors import UsageError
from ..dataset import Dataset
from .folders import list_folder
from .npz_files import read_npz
from .pictures import read
from .splitting import NOTE, as_dataset
from .tables import list_table

__all__ = ["NOTE", "load"]

_FORMS = "a folder that holds a folder of pictures for each class, a .csv file of paths and labels, or an .npz file"


def load(source: Path, spec: PictureSpec, *, skip_broken: bool) -> Dataset:
    """Loads pictures in a network's format.

    Args:
        source: the folder or file.
        spec: the network's pictures; they are prepared as a server prepares them.
        skip_broken: whether to skip unreadable pictures.

    Raises:
        UsageError: the source does not exist, or is of another kind.
        DataError: it has fewer than two classes, a class has too few pictures or none in a split, a picture cannot be
            read, or the pictures take too much memory.
    """
    if not source.exists():
        raise UsageError(f"--images {source}: no such folder or file; give {_FORMS}")
    name = source.resolve().stem if source.is_file() else source.resolve().name
    if source.is_file() and source.suffix.lower() == ".npz":
        return as_dataset(name, source, *read_npz(source, spec))
    if source.is_dir():
        listing = list_folder(source)
    elif source.suffix.lower() == ".csv":
        listing = list_table(source)
    else:
        raise UsageError(f"--images {source} is a file; give {_FORMS}")
    pictures = read(source, listing.pictures, spec, skip_broken=skip_broken)
    return as_dataset(name, source, listing.labels, pictures)
