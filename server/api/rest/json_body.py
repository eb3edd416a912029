"""JSON bodies, read strictly."""

import json
from typing import Any, NoReturn

from ...errors import InvalidRequest
from ..wire import MAX_FIELDS

_KINDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}

MAX_ITEMS = 10_000
"""Values in the JSON of a request that holds no tensors."""


def parse_object(text: bytes | memoryview, *, max_items: int | None = MAX_ITEMS) -> dict[str, Any]:
    """Returns the JSON object that a body holds.

    Args:
        text: UTF-8.
        max_items: how many values the JSON may hold at most, each of which may cost thirty times its bytes; None: its
            size is bounded elsewhere.

    Raises:
        InvalidRequest: it is no JSON, no object, or holds too much.
    """
    if max_items is not None and _items(text) > max_items:
        raise InvalidRequest(f"the body has more than {max_items:,} items of JSON, which is too many")
    try:
        # A number of thousands of digits and text that is not UTF-8 are ValueErrors too.
        value = json.loads(str(text, "utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest('the body is JSON but no object; expected {"inputs": [...]} or the like')
    return value


def _items(text: bytes | memoryview) -> int:
    """Returns how many values JSON holds at most; strings may hold what looks like some."""
    return sum(bytes(text).count(each) for each in (b",", b"[", b"{"))


def _no_constant(name: str) -> NoReturn:
    # Python's parser takes these, which JSON has not.
    raise ValueError(f"{name} is not a JSON number; send it as binary data")


def dump(value: object) -> bytes:
    """Returns JSON, UTF-8 and without spaces."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def member(container: dict[str, Any], name: str, kind: type, default: Any, where: str) -> Any:
    """Returns a member of an object, or its default where it is absent or null.

    Raises:
        InvalidRequest: it is not of the kind: str, list or dict.
    """
    value = container.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidRequest(f"{where}: {name} is not {_KINDS[kind]}, which is expected")
    return value


def text(container: dict[str, Any], name: str, where: str) -> str:
    """Returns a member that is a string; empty where it is absent.

    Raises:
        InvalidRequest: it is no string, or not one that UTF-8 can say.
    """
    value: str = member(container, name, str, "", where)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            # JSON can write half of a surrogate pair.
            raise InvalidRequest(f"{where}: {name} is not Unicode text: {error}") from error
    return value


def objects(container: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """Returns a member that is a list of objects; empty where it is absent.

    Raises:
        InvalidRequest: it is anything else.
    """
    values: list[dict[str, Any]] = member(container, name, list, [], where)
    if len(values) > MAX_FIELDS:
        raise InvalidRequest(f"{where}: {name} has {len(values):,} objects; at most {MAX_FIELDS:,} are accepted")
    if not all(isinstance(value, dict) for value in values):
        raise InvalidRequest(f"{where}: {name} has an element that is not an object; expected objects only")
    return values
