"""Reads text files of any editor: UTF-8, or UTF-16 with a byte order mark."""

import codecs
import os
from pathlib import Path

CONFIG_BYTES = 256 << 10
"""Maximum bytes of a config.pbtxt; protobuf parses one or two million per second."""
LABELS_BYTES = 8 << 20
"""Maximum bytes of a label file."""
TEXT_BYTES = 16 << 20
"""Maximum bytes of any other text file."""
MAX_LINES = 1 << 18
"""Maximum lines of files with one value per line: label files, lists of pictures."""

# UTF-32 first: its little-endian mark starts with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class TextError(ValueError):
    """The file is not text; the message says what to do, without the file."""


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Returns a file's content. Checks its size first, and refuses files that grow meanwhile.

    Raises:
        OSError: the file cannot be read.
        TextError: it is not a file, or has more than `most_bytes` bytes.
    """
    # A pipe would block.
    if path.exists() and not path.is_file():
        raise TextError("it is not a file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most_bytes + 1) if size <= most_bytes else b""
    size = max(size, len(data))
    if size > most_bytes:
        raise TextError(f"it has {size:,} bytes; at most {most_bytes:,} are read")
    return data


def read_text(path: Path, most_bytes: int = TEXT_BYTES) -> str:
    """Returns a text file's content with `\\n` at the end of each line, without a byte order mark.

    Raises:
        OSError: the file cannot be read.
        TextError: it is not a file, has more bytes than `most_bytes`, or is neither UTF-8 nor UTF-16 with a byte order
            mark.
    """
    return decode(read_bytes(path, most_bytes))


def decode(data: bytes) -> str:
    """Decodes a file's bytes like `read_text`.

    Raises:
        TextError: the bytes are neither UTF-8 nor UTF-16 with a byte order mark.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextError(f"it is not text in UTF-8 ({error}); save it as UTF-8") from error
    if "\0" in text:
        # UTF-16 without a mark decodes as UTF-8 with a zero in every other place.
        raise TextError("it holds zero bytes: it is not text, or UTF-16 without a byte order mark; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, most_bytes: int = TEXT_BYTES) -> tuple[str, ...]:
    """Returns a text file's lines without trailing blank ones.

    Raises:
        OSError, TextError: as `read_text`, or there are more than `MAX_LINES`.
    """
    text = read_text(path, most_bytes)
    # Counted first: as separate strings, the lines of 8 MiB may take 500 MiB.
    count = text.count("\n")
    if count > MAX_LINES:
        raise TextError(f"it has {count:,} lines; at most {MAX_LINES:,} are read")
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(lines)
