"""Other files on volumes are not mistaken for models."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelserve_server.errors import NotFound
from pixelserve_server.repository.layout import find_model, survey


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A claim's root: a model, and what only root may read, which tests may run as."""
    (tmp_path / "digits" / "1").mkdir(parents=True)
    for name in ("lost+found", "private"):
        (tmp_path / name).mkdir()
    listed = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path.name in ("lost+found", "private"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    return tmp_path


def test_lost_and_found_is_not_a_model_even_if_unreadable(claim: Path) -> None:
    found = survey(claim)
    assert [folder.name for folder in found.models] == ["digits"]
    lost, private = found.passed_over
    assert (lost.path.name, lost.may_be_model) == ("lost+found", False)
    assert lost.reason == "holds no version folder and no config.pbtxt: not a model"
    assert (private.path.name, private.may_be_model) == ("private", True)
    assert private.reason.startswith("cannot be read: Permission denied")
    with pytest.raises(NotFound, match="not a model"):
        find_model(claim, "lost+found")


@pytest.mark.parametrize("name", ["..data", "..2026_11_29_10_00_00.1", ".snapshot"])
def test_hidden_folders_of_a_volume_are_not_models(tmp_path: Path, name: str) -> None:
    for folder in ("digits", name):
        (tmp_path / folder / "1").mkdir(parents=True)
    found = survey(tmp_path)
    assert [folder.name for folder in found.models] == ["digits"]
    assert not found.passed_over
    with pytest.raises(NotFound):
        find_model(tmp_path, name)
