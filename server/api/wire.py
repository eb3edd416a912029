"""Parses the protobuf wire format to find a message's large fields without copying them.

Format: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


MAX_FIELDS = 4096
"""Fields that a message may have, not counting those of the messages in it. A request has a few for each tensor; each
may cost protobuf 90 bytes of memory where it has two, and us two microseconds."""


class TooManyFields(ValueError):
    """Sender error: a message has too many fields."""


class Fields:
    """Iterates over the fields of messages, up to a total limit."""

    def __init__(self, limit: int = MAX_FIELDS) -> None:
        """`limit`: maximum total number of fields."""
        self._limit = limit
        self._left = limit

    def walk(self, message: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
        """Yields each field's tag, start, start of its value, and end.

        Raises:
            ValueError: the bytes are not a protobuf message.
            TooManyFields: the limit is exceeded.
        """
        position, size = 0, len(message)
        while position < size:
            if not self._left:
                raise TooManyFields(f"it has more than {self._limit:,} fields")
            self._left -= 1
            tag, behind_tag = _read_varint(message, position)
            end, value_at = _field_end(message, tag & 7, behind_tag)
            if end > size:
                raise ValueError("it is cut off in the middle of a field")
            yield tag, position, value_at, end
            position = end


def split_field(message: bytes, field_number: int) -> tuple[bytes, list[memoryview]]:
    """Splits all occurrences of a length-delimited field from a serialized message.

    Returns:
        The message without the field, and a view of each value, in order.

    Raises:
        ValueError: the bytes are not a protobuf message.
        TooManyFields: it has more than MAX_FIELDS fields.
    """
    wanted = field_number << 3 | _LENGTH_DELIMITED
    view = memoryview(message)
    values: list[memoryview] = []
    rest: list[memoryview] = []
    kept_from = 0
    for tag, start, value_at, end in Fields().walk(message):
        if tag == wanted:
            values.append(view[value_at:end])
            rest.append(view[kept_from:start])
            kept_from = end
    rest.append(view[kept_from:])
    return b"".join(rest), values


def _field_end(message: bytes | memoryview, wire_type: int, position: int) -> tuple[int, int]:
    """Returns the end of a field and the start of its value."""
    if wire_type == _LENGTH_DELIMITED:
        length, position = _read_varint(message, position)
        return position + length, position
    if wire_type == _VARINT:
        return _read_varint(message, position)[1], position
    if wire_type == _FIXED64:
        return position + 8, position
    if wire_type == _FIXED32:
        return position + 4, position
    raise ValueError(f"a field has wire type {wire_type}")


def _read_varint(message: bytes | memoryview, position: int) -> tuple[int, int]:
    """Returns a varint and the position after it."""
    value = shift = 0
    # 64 bits take at most ten bytes of seven bits.
    for byte in message[position : position + 10]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("it is cut off in the middle of a number, or the number is too long")


def encode_varint(value: int) -> bytes:
    """Encodes a non-negative number as a varint: seven bits per byte, lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
