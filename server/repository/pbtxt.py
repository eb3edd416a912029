"""Parses config.pbtxt (protobuf text), explains its mistakes with corrections, and finds its lines."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from pixelserve.oip import model_config_pb2 as pb
from pixelserve.text import CONFIG_BYTES, TextError, read_text

from ..errors import RepositoryError

# Messages of protobuf's parser (text_format.ParseError), up to names. test_pbtxt.py checks the oldest and the pinned
# release; if protobuf changes them, mistakes lose their corrections but keep their lines.
_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(.+)"')
_NO_VALUE = re.compile(r'Enum type "([\w.]+)" has no value named (.+)\.')
_NO_TEXT = re.compile(r"Expected string but found: '([A-Za-z_]\w*)'")
_NO_NUMBER = re.compile(r"Couldn't parse integer: ([\"'])(-?\d+)\1")
_NO_SIGN = re.compile(r'Expected "([:,])"')
_NOT_CLOSED = 'Expected "}"'
_TWICE = re.compile(r'should not have multiple "(.+)" fields')
_EXCLUDES = re.compile(r'Field "(.+)" is specified along with field "(.+)", another member')
# The prefix: the position, and the line if the parser quotes it.
_PLACE = re.compile(r"^\d+:\d+ : ('.*': )?")
_FLOAT = re.compile(r"(?i)(?:TYPE_)?(?:FP|FLOAT|DOUBLE)(\d+)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r'\w+(?:\["[^"]*"\]|\[\d+\])?')
MOST_MISTAKES = 20
"""Maximum mistakes reported per file; a file with more has another format."""


def parse(path: Path, text: str) -> tuple[pb.ModelConfig | None, list[RepositoryError]]:
    """Parses protobuf text; continues after a mistake, corrected if its meaning is plain.

    Returns:
        The configuration with plain mistakes corrected, or None if one is not plain; and all mistakes found.
    """
    errors: list[RepositoryError] = []
    lines = text.split("\n")
    is_plain = True
    while len(errors) < MOST_MISTAKES:
        try:
            config = text_format.Parse("\n".join(lines), pb.ModelConfig())
            return (config if is_plain else None), errors
        except text_format.ParseError as raised:
            error = raised
        number = min(error.GetLine() or 1, len(lines))
        line = lines[number - 1]
        problem, corrected = _explain(line, error)
        errors.append(RepositoryError(problem, path=path, line=number, write=corrected.strip()))
        is_open = _NOT_CLOSED in str(error) or line.count("{") != line.count("}") or line.count("[") != line.count("]")
        if not corrected and is_open:
            # Without this line, the others would be in another message.
            break
        is_plain = is_plain and bool(corrected)
        lines[number - 1] = corrected
    return None, errors


def _explain(line: str, error: text_format.ParseError) -> tuple[str, str]:
    """Returns what is wrong with a line, and the corrected line, or empty if unclear."""
    said = _PLACE.sub("", str(error)).rstrip(".")
    at = (error.GetColumn() or 1) - 1
    if match := _NO_SIGN.search(said):
        # Some write = instead of a colon.
        rest = line[at:].removeprefix("=").lstrip()
        return f"`{line.strip()}`: expected {match[1]} before `{rest}`", f"{line[:at].rstrip()}{match[1]} {rest}"
    for explain in (_misspelt, _mistyped):
        if found := explain(said):
            problem, wrong, right = found
            # The parser may already be past the word that it names.
            start = max(line.find(wrong, at), line.rfind(wrong, 0, at))
            corrected = f"{line[:start]}{right}{line[start + len(wrong) :]}" if right and start >= 0 else ""
            return f"`{line.strip()}`: {problem}", corrected
    remedy = _conflict(said) or f"{said}; expected Triton's ModelConfig as protobuf text"
    return f"`{line.strip()}`: {remedy}", ""


def _misspelt(said: str) -> tuple[str, str, str] | None:
    """Returns the problem with an unknown field or value, the word, and a likely correction."""
    if (match := _NO_FIELD.search(said)) and match[2].isdigit():
        return f"expected several values in brackets with commas between, and came to {match[2]}", match[2], ""
    if match := _NO_FIELD.search(said):
        known = list(pb.DESCRIPTOR.pool.FindMessageTypeByName(match[1]).fields_by_name)
    elif match := _NO_VALUE.search(f"{said}."):
        known = list(pb.DESCRIPTOR.pool.FindEnumTypeByName(match[1]).values_by_name)
    else:
        return None
    wrong, right = match[2], _nearest(match[2], known)
    problem = f"{match[1].removeprefix('inference.')} has no {wrong}"
    return (problem, wrong, right) if right else (f"{problem}; remove it, or take one of {', '.join(known)}", wrong, "")


def _nearest(word: str, known: list[str]) -> str:
    """Returns the most similar known word, or empty."""
    plain = word.strip("\"'")
    if as_numpy := _FLOAT.fullmatch(plain):
        plain = f"TYPE_FP{as_numpy[1]}"
    by_case = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(plain.casefold(), by_case, n=1)
    return by_case[close[0]] if close else ""


def _mistyped(said: str) -> tuple[str, str, str] | None:
    """Returns the problem with a value's missing or wrong quotes, the value, and the correction."""
    if match := _NO_TEXT.search(said):
        return "expected text in quotes", match[1], f'"{match[1]}"'
    if match := _NO_NUMBER.search(said):
        return "expected a number without quotes", f"{match[1]}{match[2]}{match[1]}", match[2]
    return None


def _conflict(said: str) -> str:
    if match := _TWICE.search(said):
        return f"{match[1]} is there already; keep one of the two"
    if match := _EXCLUDES.search(said):
        return f"{match[1]} and {match[2]} exclude each other; keep one of the two"
    if _NOT_CLOSED in said:
        return "the file ends here, and something is open; close it with }"
    return ""


def value_name(enum: Any, number: int) -> str:
    """Returns the name of an enum's value, or its number if it has none; protobuf text allows any number."""
    return str(enum.Name(number)) if number in enum.values() else str(number)


def as_line(message: Message) -> str:
    """Returns a message's fields as protobuf text on one line, whatever characters its names contain."""
    line: str = text_format.MessageToString(message, as_utf8=True, as_one_line=True, use_short_repeated_primitives=True)
    return line.strip()


def error_at(path: Path, place: str, problem: str, write: str = "") -> RepositoryError:
    """Returns the error of a configuration's field, given by its path (see `line_of`), and the correction."""
    return RepositoryError(problem, path=path, line=line_of(path, place), write=write)


def line_of(path: Path, place: str) -> int | None:
    """Returns the line on which a field, or the message containing it, starts; None if it is absent.

    Args:
        path: the configuration.
        place: the field's path, such as version_policy.latest, input[1].dims or parameters["inversion"].
    """
    try:
        lines = _lines(read_text(path, CONFIG_BYTES))
    except (OSError, TextError, text_format.ParseError):
        return None
    parts = [part if part.endswith("]") else f"{part}[0]" for part in _PART.findall(place)]
    while parts and ".".join(parts) not in lines:
        parts.pop()
    return lines.get(".".join(parts))


# Each of a file's problems needs a line, and finding the lines takes as long as parsing the file.
@lru_cache(maxsize=1)
def _lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for field, line in _fields(text):
        lines.setdefault(field, line)
    return lines


# The tokenizer reveals its line only in an error, whose text does not matter.
_NOTHING: Any = ""


def _fields(text: str) -> Iterator[tuple[str, int]]:
    """Yields each field's path, with its index among fields of its name or its key in a map, and its line."""
    tokens = text_format.Tokenizer(text.split("\n"))
    seen: Counter[str] = Counter()
    # The open scopes: the path before their fields, or of the messages in a list.
    open_messages, open_lists = [""], [""]
    name, before = "", ""
    while not tokens.AtEnd():
        word, line = tokens.token, tokens.ParseError(_NOTHING).GetLine() or 0
        if word in "{<":
            field = open_lists[-1] or f"{open_messages[-1]}{name}"
            open_messages.append(f"{field}[{seen[field]}].")
            open_lists.append("")
            seen[field] += 1
            yield open_messages[-1].rstrip("."), line
        elif word in "}>":
            if len(open_messages) == 1:
                return
            open_messages.pop()
            open_lists.pop()
        elif word in "[]":
            open_lists[-1] = f"{open_messages[-1]}{name}" if word == "[" else ""
        elif name == "key" and before == ":":
            yield f'{open_messages[-1].rpartition("[")[0]}["{word[1:-1]}"]', line
        elif _WORD.fullmatch(word) and before != ":" and not open_lists[-1]:
            name = word
            yield f"{open_messages[-1]}{name}[0]", line
        before = word
        tokens.NextToken()
