"""Lists the pictures in a folder: one subfolder per class, named after its label, in splits or not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pixelserve.imaging.files import SUFFIXES, Finder, is_of_system

from ...errors import DataError
from ...progress import say
from .listing import SPLITS, Listed, Listing, SplitName, check_label


def list_folder(root: Path) -> Listing:
    """Lists the pictures in a folder's subfolders, at any depth.

    Files of operating systems (._NAME, .DS_Store, Thumbs.db) are skipped; links to folders are not followed.

    Args:
        root: holds a folder for each class; or the folders train, test and perhaps val, each with one for each class.

    Raises:
        DataError: it has fewer than two classes, or a class without pictures.
    """
    folders = _folders(root)
    splits = _splits(root, folders)
    if not splits:
        return _listing(root, [(folder, None) for folder in _classes(root, folders)])
    if ignored := [folder.name for folder in folders if folder not in splits]:
        say(f"note: ignored in {root}, which holds a data set in splits: {', '.join(ignored)}")
    found = [(folder, split) for part, split in splits.items() for folder in _classes(part, _folders(part))]
    return _listing(root, found)


def _listing(root: Path, folders: Sequence[tuple[Path, SplitName | None]]) -> Listing:
    labels = tuple(sorted({folder.name for folder, _ in folders}))
    listed = [
        Listed(path, labels.index(folder.name), str(path.relative_to(root)), split)
        for folder, split in folders
        for path in _pictures_in(folder)
    ]
    return Listing(labels, listed)


def _folders(root: Path) -> list[Path]:
    entries = [entry for entry in _entries(root) if not is_of_system(entry.name)]
    if loose := sum(entry.is_file() for entry in entries):
        say(f"note: {loose:,} files directly in {root} are ignored: they are not in a class's folder")
    return [entry for entry in entries if entry.is_dir()]


def _classes(root: Path, folders: Sequence[Path]) -> Sequence[Path]:
    if len(folders) < 2:
        found = f"one folder in it ({folders[0].name})" if folders else "no folders in it"
        raise DataError(f"--images {root}: {found}; expected one for each class, at least two, named after the classes")
    for folder in folders:
        check_label(folder.name, f"--images {root}: the folder")
    return folders


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error


def _splits(root: Path, folders: Sequence[Path]) -> dict[Path, SplitName]:
    """Returns the folders that are splits; none if the folders are classes, one of which may be called like a split.

    Raises:
        DataError: the splits are incomplete, or two folders are the same split.
    """
    splits = {folder: SPLITS[folder.name.lower()] for folder in folders if folder.name.lower() in SPLITS}
    if not splits or (len(splits) == 1 and len(folders) > 1):
        return {}
    names = ", ".join(folder.name for folder in splits)
    if len(set(splits.values())) < len(splits):
        raise DataError(f"--images {root}: {names}: two of them mean the same split; keep one of each")
    if len(splits) == 1 or "train" not in splits.values():
        first = next(iter(splits))
        raise DataError(
            f"--images {root}: {names}: splits of a data set, not classes; expected train beside test or val; or give "
            f"one of them, --images {first}, of which a fifth is held out as the test split"
        )
    return splits


def _pictures_in(folder: Path) -> Iterator[Path]:
    finder = Finder()
    try:
        pictures = list(finder.pictures(folder))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error
    skipped = finder.skipped()
    if not pictures:
        raise DataError(
            f"{folder}: no pictures in it ({skipped or 'it is empty'}); expected names that end in "
            f"{', '.join(SUFFIXES)}: put some there, or remove the folder"
        )
    if skipped:
        say(f"note: skipped in {folder}: {skipped}")
    return iter(pictures)
