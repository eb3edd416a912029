"""Converts protobuf messages to JSON: original field names, numbers as numbers."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message


def as_json(message: Message) -> dict[str, Any]:
    """Returns a message as JSON-compatible values.

    protobuf's own conversion writes 64-bit numbers as strings, which Triton's clients do not expect. As there, unset
    fields have their defaults; absent messages and unset members of a oneof are omitted.
    """
    return {
        field.name: _field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _field(field: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        of = field.message_type.fields_by_name["value"]
        return {str(key): _value(of, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_value(field, each) for each in value]
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return as_json(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value
