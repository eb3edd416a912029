"""Finds the version that a command names."""

from pathlib import Path

from ...errors import NotFound, UnknownName
from ...repository.layout import ModelFolder, find_model, is_version


def find_version(text: str, repository: Path) -> tuple[ModelFolder, int]:
    """Returns a model's folder and a version.

    Args:
        text: NAME (its highest version) or NAME:VERSION in the repository, or the folder of a model or version.
        repository: folder of models.

    Raises:
        UnknownName: there is no such model or version.
    """
    path = Path(text)
    if is_version(path.resolve().name) and path.is_dir():
        return ModelFolder(path.resolve().parent), int(path.resolve().name)
    name, _, number = text.partition(":")
    try:
        folder = ModelFolder(path.resolve()) if path.is_dir() else find_model(repository, name)
    except NotFound as error:
        raise UnknownName(f"{repository}: {error}; give another with --model-repository") from error
    versions = folder.versions()
    if not versions or (number and number not in map(str, versions)):
        raise UnknownName(f'{folder.path} has no version "{number}"; it has {", ".join(map(str, versions)) or "none"}')
    return folder, int(number) if number else versions[-1]
