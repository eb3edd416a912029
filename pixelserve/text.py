"""Reads text files as editors on every system write them: UTF-8 or UTF-16, with a byte order mark or without."""

import codecs
from pathlib import Path

_MAX_BYTES = 16 << 20

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class TextError(ValueError):
    """A file that is not text; the message says what to do, without the file."""


def read_text(path: Path) -> str:
    """Returns a text file's content with `\\n` at the end of each line, without a byte order mark.

    Raises:
        OSError: the file cannot be read.
        TextError: it is not a file, is larger than 16 MiB, or is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    # A pipe would wait for its other end.
    if path.exists() and not path.is_file():
        raise TextError("it is not a file")
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise TextError(f"it is larger than {_MAX_BYTES >> 20} MiB, which no text file here needs to be")
    return decode(data)


def decode(data: bytes) -> str:
    """Returns the text that a file's bytes are, as `read_text` does.

    Raises:
        TextError: the bytes are neither UTF-8 nor UTF-16 with a byte order mark.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextError(f"it is not text in UTF-8 ({error}); save it as UTF-8") from error
    if "\0" in text:
        # UTF-16 without a mark decodes as UTF-8 with a zero at every other place.
        raise TextError("it holds zero bytes: it is not text, or UTF-16 without a byte order mark; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> tuple[str, ...]:
    """Returns a text file's lines; blank ones at its end are left out.

    Raises:
        OSError, TextError: as `read_text`.
    """
    lines = read_text(path).split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(lines)
