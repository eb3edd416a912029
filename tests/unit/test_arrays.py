"""The unpacked size of an npz file is known and bounded before unpacking."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.arrays import ArraysError, read_arrays

MIB = 1 << 20
VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def npy(shape: tuple[int, ...], elements: bytes, descr: Any = "<f4") -> bytes:
    """Returns an array file whose header need not be true."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + elements


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "golden.npz"


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_written(path: Path, write: Callable[..., None]) -> None:
    arrays = {"a": VALUES, "b/c": np.array(["x", "yy"]), "d": np.asfortranarray(VALUES), "e": np.zeros((0, 4), "u1")}
    write(path, **arrays)
    read = read_arrays(path, MIB)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_an_archive_that_unpacks_to_too_much_is_refused_with_the_number_and_costs_no_memory(path: Path) -> None:
    archive(path, {"a.npy": npy((16 * MIB,), bytes(64 * MIB))})
    tracemalloc.start()
    with pytest.raises(ArraysError, match="unpacks to 67,108,992 bytes; at most 67,108,991 are read"):
        read_arrays(path, 64 * MIB + 127)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB
    assert read_arrays(path, 64 * MIB + 128)["a"].size == 16 * MIB


def test_small_members_count_together(path: Path) -> None:
    archive(path, {f"{name}.npy": npy((MIB,), bytes(4 * MIB)) for name in "abc"})
    with pytest.raises(ArraysError, match=r"unpacks to 12,583,296 bytes; at most 10,485,760 are read"):
        read_arrays(path, 10 * MIB)


def test_a_size_in_the_directory_that_is_a_lie_bounds_what_is_unpacked(path: Path) -> None:
    member = npy((16,), bytes(64 * MIB))
    content = archive(path, {"a.npy": member}).read_bytes()
    path.write_bytes(content.replace(struct.pack("<L", len(member)), struct.pack("<L", 192)))
    tracemalloc.start()
    with pytest.raises(ArraysError, match="it is damaged: Bad CRC-32"):
        read_arrays(path, MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MIB


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(npy((1 << 40,), bytes(8)), r"8 bytes of elements; its shape .* make 4,398,046,511,104", id="more"),
        pytest.param(npy((1,), bytes(8)), r"8 bytes of elements; its shape \[1\] .* make 4", id="fewer"),
        pytest.param(npy((-1, -2), bytes(8)), r"its shape \[-1, -2\]", id="negative"),
        pytest.param(npy((1 << 40,), b"", "<U0"), "holds 1,099,511,627,776 strings; at most 1,048,576", id="no text"),
        pytest.param(npy((1,), bytes(8), "|O"), "holds object; expected numbers or text", id="pickled"),
        pytest.param(npy((1,), bytes(8), [("a", "<f8")]), "expected numbers or text", id="records"),
        pytest.param(npy((1,), bytes(8), "<M8[s]"), "expected numbers or text", id="dates"),
        pytest.param(npy((1,), bytes(8), "|V8"), "expected numbers or text", id="bytes"),
        pytest.param(b"\x93NUMPY\x02\x00" + b"\xff" * 64, r"format \(2, 0\); expected \(1, 0\)", id="long header"),
        pytest.param(b"\x93NUMPY\x01\x00\xff\xff{}", "it is damaged", id="short header"),
        pytest.param(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "it is damaged", id="deep header"),
        pytest.param(b"plain text", "it is damaged", id="no array"),
    ],
)
def test_an_array_that_is_not_what_its_header_says_is_refused(path: Path, content: bytes, said: str) -> None:
    archive(path, {"good.npy": npy((2,), bytes(8)), "a.npy": content})
    with pytest.raises(ArraysError, match=said):
        read_arrays(path, MIB)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_python_unpacks_without_a_limit_are_refused(path: Path, method: int) -> None:
    archive(path, {"a.npy": npy((2,), bytes(8))}, method)
    with pytest.raises(ArraysError, match=f"a.npy is packed by method {method}; expected deflate or none"):
        read_arrays(path, MIB)


def test_a_directory_of_countless_members_is_refused_before_it_is_read(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for number in range(6000):
            file.writestr(f"{number}.npy", b"")
    with pytest.raises(ArraysError, match=r"its directory has 3\d\d,\d\d\d bytes; at most 262,144 are read"):
        read_arrays(path, MIB)


def test_a_larger_directory_behind_a_small_one_is_refused(path: Path) -> None:
    content = archive(path, {"a.npy": npy((2,), bytes(8))}).read_bytes()
    path.write_bytes(content[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + content[-22:])
    with pytest.raises(ArraysError, match="its directory has"):
        read_arrays(path, MIB)


def test_a_name_that_is_there_twice_is_refused(path: Path) -> None:
    content = archive(path, {"a.npy": npy((2,), bytes(8)), "b.npy": npy((2,), bytes(8))}).read_bytes()
    path.write_bytes(content.replace(b"b.npy", b"a.npy"))
    with pytest.raises(ArraysError, match="a occurs twice"):
        read_arrays(path, MIB)


def test_an_archive_that_is_cut_off_anywhere_is_refused(path: Path) -> None:
    np.savez(path, a=VALUES)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(ArraysError):
            read_arrays(path, MIB)


def test_bytes_that_changed_anywhere_are_refused_or_read_as_some_arrays(path: Path) -> None:
    np.savez_compressed(path, a=VALUES)
    content = bytearray(path.read_bytes())
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read_arrays(path, MIB)
        except ArraysError:
            continue
