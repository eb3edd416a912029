"""JSON bodies, read strictly."""

from typing import Any

import msgspec

from ...errors import InvalidRequest
from ..wire import MAX_FIELDS

_KINDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}
_DECODER, _ENCODER = msgspec.json.Decoder(), msgspec.json.Encoder()

MAX_ITEMS = 10_000
"""Values in the JSON of a request that holds no tensors."""


def parse_object(text: bytes | memoryview, *, max_items: int | None = MAX_ITEMS) -> dict[str, Any]:
    """Returns the JSON object that a body holds; its strings are Unicode, and its numbers finite.

    Args:
        text: UTF-8.
        max_items: how many values the JSON may hold at most, each of which may cost thirty times its bytes; None: its
            size is bounded elsewhere.

    Raises:
        InvalidRequest: it is not JSON, not an object, or holds too much.
    """
    if max_items is not None and _items(text) > max_items:
        raise InvalidRequest(f"the body has more than {max_items:,} items of JSON, which is too many")
    try:
        value = _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}; expected UTF-8, and finite numbers") from error
    if not isinstance(value, dict):
        raise InvalidRequest('the body is JSON but not an object; expected {"inputs": [...]} or the like')
    return value


def _items(text: bytes | memoryview) -> int:
    """Returns how many values JSON holds at most; strings may hold what looks like some."""
    return sum(bytes(text).count(each) for each in (b",", b"[", b"{"))


def dump(value: object) -> bytes:
    """Returns JSON, UTF-8 and without spaces; NaN, which JSON cannot say, is null."""
    return _ENCODER.encode(value)


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
        InvalidRequest: it is anything else.
    """
    value: str = member(container, name, str, "", where)
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
