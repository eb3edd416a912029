"""Text files from editors on every system."""

import os
import tracemalloc
from pathlib import Path

import pytest

from pixelserve.text import CONFIG_BYTES, MAX_LINES, TEXT_BYTES, TextError, read_bytes, read_lines, read_text

WINDOWS = "Süßes\r\nSalt\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_that_says_what_it_is_gives_the_same_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(WINDOWS.encode(encoding))
    assert read_text(path) == "Süßes\nSalt\n"


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_utf_16_of_either_byte_order_is_detected_by_its_mark(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(f"\ufeff{WINDOWS}".encode(name))
    assert read_text(path) == "Süßes\nSalt\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        pytest.param(b"cat\ndog", ("cat", "dog"), id="no newline at the end"),
        pytest.param(b"cat\r\ndog\r\n\r\n", ("cat", "dog"), id="a blank last line from Windows"),
        pytest.param(b"cat\rdog\r", ("cat", "dog"), id="carriage returns alone"),
        pytest.param(b"cat\n\ndog\n \n", ("cat", "", "dog"), id="blank lines are kept but at the end"),
        pytest.param("left\u2028right\n".encode(), ("left\u2028right",), id="separators of other kinds end no line"),
        pytest.param(b"", (), id="nothing"),
    ],
)
def test_lines_end_where_editors_show_their_ends(tmp_path: Path, content: bytes, lines: tuple[str, ...]) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert read_lines(path) == lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"caf\xe9\n", "not text in UTF-8", id="Latin-1"),
        pytest.param("cat\n".encode("utf-16-le"), "zero bytes", id="UTF-16 without a mark"),
        pytest.param(b"\xff\xfec", "not text in UTF-8", id="half a character of UTF-16"),
    ],
)
def test_what_is_not_text_is_refused_with_what_to_do(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(TextError, match=said):
        read_text(path)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.txt")
    with pytest.raises(TextError, match="not a file"):
        read_text(tmp_path / "labels.txt")


@pytest.mark.parametrize("most_bytes", [CONFIG_BYTES, TEXT_BYTES])
def test_a_file_that_is_too_large_is_refused_by_its_size_without_being_read(tmp_path: Path, most_bytes: int) -> None:
    path = tmp_path / "config.pbtxt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    with pytest.raises(TextError, match=f"has 1,099,511,627,776 bytes; at most {most_bytes:,} are read"):
        read_text(path, most_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < CONFIG_BYTES


def test_a_file_of_the_largest_size_is_read_and_one_more_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"cats\n")
    assert read_bytes(path, 5) == b"cats\n"
    with pytest.raises(TextError, match="has 5 bytes; at most 4 are read"):
        read_bytes(path, 4)


def test_a_file_that_does_not_know_its_size_is_bounded_as_it_is_read() -> None:
    with pytest.raises(TextError, match="has 11 bytes; at most 10 are read"):
        read_bytes(Path("/proc/self/maps"), 10)


def test_lines_are_counted_before_they_are_made(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"a\n" * MAX_LINES)
    assert len(read_lines(path)) == MAX_LINES
    path.write_bytes(b"a\n" * (MAX_LINES + 1))
    with pytest.raises(TextError, match=f"has {MAX_LINES + 1:,} lines; at most {MAX_LINES:,} are read"):
        read_lines(path)


def test_a_missing_file_is_distinguished(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "labels.txt")
