"""Changes to protobuf messages that know their fields: most of what they make still parses."""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

from .mutate import Mutator

_RANGES = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
    Field.CPPTYPE_ENUM: (-2, 40),
}
_REPEATS = (1, 1, 2, 5, 300)
_DEEPEST = 6
# With another name, nothing else of a request is looked at.
_ADDRESS = ("model_name", "model", "model_version")


def mutate(mutator: Mutator, seeds: list[Message]) -> Message:
    """Returns a copy of one of the messages with a few fields changed, and perhaps some of another's."""
    message = type(seeds[0])()
    message.CopyFrom(mutator.random.choice(seeds))
    for _ in range(mutator.times()):
        if mutator.chance(0.1):
            message.MergeFrom(mutator.random.choice(seeds))
        else:
            _change(mutator, message, 0)
    return message


def serialized(mutator: Mutator, seeds: list[Message]) -> bytes:
    """Returns a mutated message's bytes, of which some are changed too in one of five."""
    data = mutate(mutator, seeds).SerializeToString()
    return mutator.octets(data, [seed.SerializeToString() for seed in seeds]) if mutator.chance(0.2) else data


def _change(mutator: Mutator, message: Message, depth: int) -> None:
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    present = [field for field, _ in message.ListFields()]
    field = mutator.random.choice(present if present and mutator.chance(0.7) else fields)
    if depth == 0 and field.name in _ADDRESS and mutator.chance(0.8):
        return
    if mutator.chance(0.1):
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _change_map(mutator, getattr(message, field.name), field, depth)
    elif field.is_repeated:
        _change_list(mutator, getattr(message, field.name), field, depth)
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
        if depth < _DEEPEST:
            _change(mutator, getattr(message, field.name), depth + 1)
    else:
        setattr(message, field.name, _value(mutator, field, getattr(message, field.name)))


def _change_map(mutator: Mutator, entries: Any, field: Any, depth: int) -> None:
    keys = list(entries)
    of_key, of_value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    key = mutator.random.choice(keys) if keys and mutator.chance(0.5) else _value(mutator, of_key, "")
    if of_value.message_type is not None:
        _change(mutator, entries[key], depth + 1)
    elif mutator.chance(0.2) and key in entries:
        del entries[key]
    else:
        entries[key] = _value(mutator, of_value, "")


def _change_list(mutator: Mutator, items: Any, field: Any, depth: int) -> None:
    kind = mutator.random.choice((0, 1, 2, 2, 2, 2, 3))
    if kind == 0 and len(items):
        del items[mutator.random.randrange(len(items))]
    elif kind == 1 and len(items):
        items.extend([items[mutator.random.randrange(len(items))]] * mutator.random.choice(_REPEATS))
    elif field.message_type is not None:
        each = items[mutator.random.randrange(len(items))] if len(items) and kind == 2 else items.add()
        if depth < _DEEPEST:
            _change(mutator, each, depth + 1)
    elif len(items) and kind == 2:
        at = mutator.random.randrange(len(items))
        items[at] = _value(mutator, field, items[at])
    else:
        items.append(_value(mutator, field, b"" if field.type == Field.TYPE_BYTES else ""))


def _value(mutator: Mutator, field: Any, before: Any) -> Any:
    if field.cpp_type in _RANGES:
        value = mutator.integer(*_RANGES[field.cpp_type])
        is_closed = field.enum_type is not None and field.enum_type.is_closed
        return mutator.random.choice(field.enum_type.values).number if is_closed else value
    if field.cpp_type == Field.CPPTYPE_BOOL:
        return mutator.chance(0.5)
    if field.cpp_type in (Field.CPPTYPE_FLOAT, Field.CPPTYPE_DOUBLE):
        return mutator.real()
    if field.type == Field.TYPE_BYTES:
        return mutator.octets(before) if isinstance(before, bytes) else mutator.word().encode()
    return mutator.word()
