"""Parses JSON bodies strictly."""

from typing import Any

import msgspec

from ...errors import InvalidRequest
from ..wire import MAX_FIELDS

_KINDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}
_DECODER, _ENCODER = msgspec.json.Decoder(), msgspec.json.Encoder()

MAX_ITEMS = 10_000
"""Maximum values in the JSON of a request without tensors."""


def parse_object(text: bytes | memoryview, *, max_items: int | None = MAX_ITEMS) -> dict[str, Any]:
    """Parses a body as a JSON object with Unicode strings and finite numbers.

    Args:
        text: UTF-8.
        max_items: maximum values in the JSON, each of which may need 30 times its bytes; None: its size is bounded
            elsewhere.

    Raises:
        InvalidRequest: it is not JSON, not an object, or has too many values.
    """
    if max_items is not None and _items(text) > max_items:
        raise InvalidRequest(f"the body has more than {max_items:,} items of JSON, too many for this request")
    try:
        value = _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}; expected UTF-8, and finite numbers") from error
    if not isinstance(value, dict):
        raise InvalidRequest('the body is JSON but not an object; expected {"inputs": [...]} or the like')
    return value


def _items(text: bytes | memoryview) -> int:
    """Returns an upper bound of the number of values in JSON; it also counts separators in strings."""
    return sum(bytes(text).count(each) for each in (b",", b"[", b"{"))


def dump(value: object) -> bytes:
    """Returns compact UTF-8 JSON; NaN becomes null."""
    return _ENCODER.encode(value)


def member(container: dict[str, Any], name: str, kind: type, default: Any, where: str) -> Any:
    """Returns a member of an object, or the default if it is absent or null.

    Raises:
        InvalidRequest: it is not of the given type: str, list or dict.
    """
    value = container.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InvalidRequest(f"{where}: {name} must be {_KINDS[kind]}")
    return value


def text(container: dict[str, Any], name: str, where: str) -> str:
    """Returns a string member, or empty if it is absent.

    Raises:
        InvalidRequest: it is anything else.
    """
    value: str = member(container, name, str, "", where)
    return value


def objects(container: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """Returns a member that is a list of objects, or empty if it is absent.

    Raises:
        InvalidRequest: it is anything else.
    """
    values: list[dict[str, Any]] = member(container, name, list, [], where)
    if len(values) > MAX_FIELDS:
        raise InvalidRequest(f"{where}: {name} has {len(values):,} objects; at most {MAX_FIELDS:,} are accepted")
    if not all(isinstance(value, dict) for value in values):
        raise InvalidRequest(f"{where}: {name} has an element that is not an object; expected objects only")
    return values
