"""Regions of shared memory: valid registrations, and no access outside of them."""

import os
from pathlib import Path

import pytest

from pixelserve_server.engine.regions import Region, Regions
from pixelserve_server.errors import AlreadyExists, InvalidRequest, NotFound, RequestError

OBJECT = bytes(range(100))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What /dev/shm would be, with one object of 100 bytes, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    path = tmp_path / "shm"
    path.mkdir()
    (path / "object").write_bytes(OBJECT)
    return path


@pytest.fixture
def region(folder: Path) -> Region:
    """Bytes 10 to 49 of the object."""
    regions = Regions(folder)
    regions.register("part", "/object", 10, 40)
    return regions.get("part")


def test_a_region_is_read_and_written_from_where_it_begins(region: Region, folder: Path) -> None:
    assert region.read(0, 3) == b"\x0a\x0b\x0c"
    assert region.read(37, 3) == b"\x2f\x30\x31"
    assert region.read(40, 0) == b""
    region.write(38, b"ab")
    assert (folder / "object").read_bytes() == OBJECT[:48] + b"ab" + OBJECT[50:]


@pytest.mark.parametrize(("offset", "size"), [(0, 41), (38, 3), (41, 0), (-1, 3), (0, -1), (2**63, 1), (2**63 - 1, 2)])
def test_nothing_outside_a_region_is_read_or_written(region: Region, folder: Path, offset: int, size: int) -> None:
    with pytest.raises(InvalidRequest, match="not inside shared memory region part, which has 40"):
        region.read(offset, size)
    if 0 <= size < 100:
        with pytest.raises(InvalidRequest, match="not inside"):
            region.write(offset, bytes(size))
    assert (folder / "object").read_bytes() == OBJECT


def test_an_object_that_becomes_smaller_is_an_error_and_stays_small(region: Region, folder: Path) -> None:
    os.truncate(folder / "object", 20)
    assert region.read(0, 10) == OBJECT[10:20]
    with pytest.raises(InvalidRequest, match="object of region part is smaller than when it was registered"):
        region.read(0, 11)
    with pytest.raises(InvalidRequest, match="smaller"):
        region.write(0, bytes(11))
    assert (folder / "object").stat().st_size == 20


@pytest.mark.parametrize(
    ("name", "key", "offset", "size", "error", "said"),
    [
        pytest.param("", "object", 0, 1, InvalidRequest, "needs a name", id="no name"),
        pytest.param("r", "object", 0, 0, InvalidRequest, "byte_size is 0; expected 1 or more", id="no bytes"),
        pytest.param("r", "object", 61, 40, InvalidRequest, "40 bytes at 61; object object has 100", id="too long"),
        pytest.param("r", "object", 2**64 - 1, 1, InvalidRequest, "object object has 100", id="far away"),
        pytest.param("r", "other", 0, 1, NotFound, "shared memory object other does not exist", id="no object"),
        pytest.param("r", "", 0, 1, InvalidRequest, "expected a name", id="no key"),
        pytest.param("r", "/", 0, 1, InvalidRequest, "expected a name", id="a slash"),
        pytest.param("r", "//object", 0, 1, InvalidRequest, "without slashes", id="two slashes"),
        pytest.param("r", "../secret", 0, 1, InvalidRequest, "without slashes", id="out of the folder"),
        pytest.param("r", "..", 0, 1, InvalidRequest, "expected a name", id="the folder above"),
        pytest.param("r", "object\0", 0, 1, InvalidRequest, "expected a name", id="a NUL"),
        pytest.param("r", "k" * 256, 0, 1, InvalidRequest, "expected a name", id="a long key"),
        pytest.param("r", "link", 0, 1, InvalidRequest, "link cannot be opened", id="a link"),
        pytest.param("r", "folder", 0, 1, InvalidRequest, "folder cannot be opened", id="a folder"),
        pytest.param("r", "pipe", 0, 1, InvalidRequest, "pipe is not a shared memory object", id="a pipe"),
        pytest.param("taken", "object", 0, 1, AlreadyExists, "taken is registered already", id="a taken name"),
    ],
)
def test_what_is_wrong_is_not_registered(
    folder: Path, name: str, key: str, offset: int, size: int, error: type[RequestError], said: str
) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    regions = Regions(folder)
    regions.register("taken", "object", 5, 5)
    open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  the listing's own descriptor is among them
    with pytest.raises(error, match=said):
        regions.register(name, key, offset, size)
    assert [(each.name, each.offset) for each in regions.listing()] == [("taken", 5)]
    assert len(os.listdir("/proc/self/fd")) == open_files  # noqa: PTH208


def test_a_region_is_gone_when_it_is_unregistered_and_its_file_is_closed(folder: Path) -> None:
    open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    regions = Regions(folder)
    for name in ("a", "b", "c"):
        regions.register(name, "object", 0, 100)
    in_use = regions.get("a")
    regions.unregister("a")
    regions.unregister("a")
    with pytest.raises(NotFound, match='no shared memory region "a"; register it first'):
        regions.get("a")
    assert in_use.read(0, 2) == OBJECT[:2]
    assert [each.name for each in regions.listing()] == ["b", "c"]
    regions.unregister("")
    assert regions.listing() == []
    del in_use
    assert len(os.listdir("/proc/self/fd")) == open_files  # noqa: PTH208


def test_regions_are_bounded(folder: Path) -> None:
    regions = Regions(folder)
    for number in range(256):
        regions.register(str(number), "object", 0, 1)
    with pytest.raises(InvalidRequest, match="256 shared memory regions are registered"):
        regions.register("one more", "object", 0, 1)
    regions.unregister("7")
    regions.register("one more", "object", 0, 1)
