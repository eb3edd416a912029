"""JSON bodies, read strictly."""

import json
from typing import Any, NoReturn

from ...errors import InvalidRequest

_KINDS: dict[type, str] = {str: "a string", list: "a list", dict: "an object"}


def parse_object(text: bytes | memoryview) -> dict[str, Any]:
    """Returns the JSON object that a body holds.

    Raises:
        InvalidRequest: it is no JSON, or no object.
    """
    try:
        # A number of thousands of digits and text that is not UTF-8 are ValueErrors too.
        value = json.loads(str(text, "utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest('the body is JSON but no object; expected {"inputs": [...]} or the like')
    return value


def _no_constant(name: str) -> NoReturn:
    # Python's parser takes these, which JSON has not.
    raise ValueError(f"{name} is no JSON number; send it as binary data")


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
    if not all(isinstance(value, dict) for value in values):
        raise InvalidRequest(f"{where}: {name} has an element that is no object; expected objects only")
    return values
