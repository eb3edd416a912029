"""The protobuf wire format, as far as it takes to find a message's large fields without copying them.

Format: protobuf.dev/programming-guides/encoding.
"""

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


def split_field(message: bytes, field_number: int) -> tuple[bytes, list[memoryview]]:
    """Separates every occurrence of one length-delimited field from the rest of a serialized message.

    Returns:
        The message without the field, and a view of each of its values, in order.

    Raises:
        ValueError: the bytes are no protobuf message.
    """
    wanted = field_number << 3 | _LENGTH_DELIMITED
    view = memoryview(message)
    values: list[memoryview] = []
    rest: list[memoryview] = []
    kept_from = position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        end, value_at = _field_end(message, tag & 7, position)
        if end > len(message):
            raise ValueError("it is cut off in the middle of a field")
        if tag == wanted:
            values.append(view[value_at:end])
            rest.append(view[kept_from:start])
            kept_from = end
        position = end
    rest.append(view[kept_from:])
    return b"".join(rest), values


def _field_end(message: bytes, wire_type: int, position: int) -> tuple[int, int]:
    """Returns where a field ends and where its value begins."""
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


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Returns a varint and the position behind it."""
    value = shift = 0
    # 64 bits take at most ten bytes of seven.
    for byte in message[position : position + 10]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("it is cut off in the middle of a number, or the number is too long")


def encode_varint(value: int) -> bytes:
    """Returns a number of 0 or more as a varint: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
