"""The images in a folder, and messages about other files."""

import os
from pathlib import Path

import pytest

from pixelserve.imaging.files import Finder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.tif", "deep/er/c.webp", "notes.txt", "IMG.heic", "README"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "scans"


def names(folder: Path, finder: Finder) -> list[str]:
    return [str(path.relative_to(folder)) for path in finder.pictures(folder)]


def test_pictures_are_found_at_any_depth_by_name(folder: Path) -> None:
    assert names(folder, Finder()) == ["a.tif", "b.PNG", "deep/er/c.webp"]


def test_what_is_passed_over_is_counted_with_its_reason(folder: Path) -> None:
    for name in ("._b.PNG", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).touch()
    for name in ("__MACOSX", "@eaDir", ".thumbnails"):
        (folder / name).mkdir()
        (folder / name / "x.png").touch()
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    finder = Finder()
    assert names(folder, finder) == ["a.tif", "b.PNG", "deep/er/c.webp"]
    assert finder.skipped() == (
        "3 without a picture's extension (no extension, .heic, .txt); "
        "7 hidden or system files (such as ._NAME, .DS_Store, Thumbs.db); 1 links to folders; "
        "2 not files (pipes, devices or broken links)"
    )


def test_where_nothing_is_passed_over_nothing_is_said(folder: Path) -> None:
    finder = Finder()
    assert names(folder / "deep", finder) == ["er/c.webp"]
    assert finder.skipped() == ""


def test_many_endings_are_not_all_named(tmp_path: Path) -> None:
    for ending in "abcdefg":
        (tmp_path / f"x.{ending}").touch()
    finder = Finder()
    assert names(tmp_path, finder) == []
    assert finder.skipped() == "7 without a picture's extension (.a, .b, .c, .d, .e, …)"


def test_the_endings_are_those_of_the_formats_that_are_read() -> None:
    from PIL import Image

    from pixelserve.imaging.formats import FORMATS

    Image.init()
    for each in FORMATS:
        assert {Image.registered_extensions()[suffix] for suffix in each.suffixes} == {each.pillow}
