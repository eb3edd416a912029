"""Changes to bytes, numbers, text and JSON, all drawn from one seeded generator."""

import itertools
import json
import random
import re
from collections.abc import Sequence
from typing import Any

INTEGERS = (0, 1, 2, 3, 4, 7, 8, 63, 64, 127, 128, 255, 256, 1000, 4096, 65_535, 65_536, 10**6, 2**31 - 1, 2**31)
INTEGERS += (2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64)
FLOATS = (0.0, -0.0, 1.0, -1.5, 1e-45, 3.4e38, 1.8e308, float("inf"), float("-inf"), float("nan"))
WORDS = (
    *("doubler", "text", "mnist", "mnist-cnn", "nobody", "1", "2", "stable", "latest", "0", "-1", "1.5", "01", " 1"),
    *("values", "doubled", "image", "probabilities", "said", "FP32", "FP16", "BF16", "INT64", "UINT8", "BOOL", "BYTES"),
    *("classification", "binary_data", "binary_data_output", "binary_data_size", "priority", "timeout", "sequence_id"),
    *("sequence_start", "sequence_end", "triton_enable_empty_final_response", "headers", "region", "/fuzz-region"),
    *(
        "shared_memory_region",
        "shared_memory_byte_size",
        "shared_memory_offset",
        "config",
        "file:1/model.onnx",
        "file:",
    ),
    *("file:../escape", "file:/etc/passwd", "file:1/../../x", "log_level", "log_file", "log_verbose_level", "info"),
    *("trace_level", "trace_rate", "trace_count", "trace_file", "TIMESTAMPS", "OFF", "unload_dependents"),
    *("..", "../..", "/", "a/b", "", " ", "\0", "\n", "é", "\u202e", "😀", "%s%n", "{}", "a" * 300, "🦑" * 2000),
    *("__class__", "toString", "<script>", "None", "NaN", "null", "true", "-0", "1e999", "\ufeff", "٣", "²"),
)
JSON_TOKENS = (
    "NaN",
    "Infinity",
    "1e999",
    "-0",
    '"\\ud800"',
    "[" * 500,
    "[" * 20_000,
    '{"a":' * 5000,
    "{",
    "]",
    ",",
    ":",
    "null",
    "true",
    "9" * 400,
)
_DEEPEST = 8
_MOST_PLACES = 5000
_MOST_COPIES = 300
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")


class Mutator:
    """Draws changes. The same seed draws the same ones."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def times(self) -> int:
        """Returns how many changes to make: mostly few."""
        return self.random.choice((1, 1, 1, 2, 2, 3, 6))

    def integer(self, least: int, most: int) -> int:
        value = self.random.choice(INTEGERS)
        if self.chance(0.3):
            value = -value
        return value if least <= value <= most else self.random.randint(least, most)

    def real(self) -> float:
        return self.random.choice(FLOATS) if self.chance(0.7) else self.random.uniform(-1e6, 1e6)

    def word(self) -> str:
        return self.random.choice(WORDS)

    def octets(self, data: bytes, others: Sequence[bytes] = ()) -> bytes:
        """Returns data with a few changes, such as bytes that are others, missing, there twice, or another input's."""
        changed = bytearray(data)
        for _ in range(self.times()):
            self._change(changed, others)
        return bytes(changed)

    def _change(self, data: bytearray, others: Sequence[bytes]) -> None:
        at = self.random.randint(0, len(data))
        end = min(len(data), at + self.random.choice((1, 1, 2, 4, 8, 32, 500)))
        kind = self.random.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << self.random.randrange(8)
        elif kind == 1:
            data[at:end] = self.random.randbytes(end - at)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * self.random.choice((1, 2, 50))
        elif kind == 4 and self.chance(0.3):
            del data[at:]
        elif kind == 5:
            width = self.random.choice((1, 2, 4, 8))
            number = self.integer(0, 256**width - 1)
            data[at : at + width] = number.to_bytes(width, self.random.choice(("little", "big")))
        elif kind == 6 and others:
            other = self.random.choice(others)
            start = self.random.randint(0, len(other))
            data[at:end] = other[start : start + self.random.choice((4, 40, 4000))]
        else:
            data[at:at] = self.random.choice((b"\0", b"\xff" * 9, b"\r\n", b"\x80" * 12, self.word().encode()))

    def text(self, data: bytes, tokens: Sequence[str]) -> bytes:
        """Returns text with a few changes to its numbers, words and lines."""
        for _ in range(self.times()):
            kind = self.random.randrange(5)
            numbers = list(_NUMBER.finditer(data)) if kind < 2 else []
            if numbers:
                found = self.random.choice(numbers)
                number = str(self.integer(-(2**64), 2**64)).encode()
                data = data[: found.start()] + number + data[found.end() :]
            elif kind == 2:
                lines = data.splitlines(keepends=True) or [b""]
                lines.insert(self.random.randint(0, len(lines)), self.random.choice(lines) * self.random.choice((1, 9)))
                data = b"".join(lines)
            elif kind == 3:
                at = self.random.randint(0, len(data))
                data = data[:at] + self.random.choice(tokens or WORDS).encode() + data[at:]
            else:
                data = self.octets(data)
        return data

    def json(self, value: Any) -> bytes:
        """Returns JSON in which some values are others, or text that is almost JSON."""
        root = [json.loads(json.dumps(value))]
        for _ in range(self.times()):
            # Lists that are there many times, in lists that are there many times, have more places than can be counted.
            places = list(itertools.islice(_places(root), _MOST_PLACES))
            holder, key = self.random.choice(places)
            self._change_member(holder, key, most=_MOST_COPIES if len(places) < 100 else 1)
        text = json.dumps(root[0], ensure_ascii=self.chance(0.5)).encode(errors="surrogatepass")
        return self.text(text, JSON_TOKENS) if self.chance(0.3) else text

    def _change_member(self, holder: Any, key: Any, most: int) -> None:
        kind = self.random.randrange(6)
        if kind == 0 and isinstance(holder, dict):
            holder[self.word()] = holder.pop(key)
        elif kind == 1 and isinstance(holder, dict):
            del holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.extend([holder[key]] * self.random.choice((1, most)))
        else:
            holder[key] = self._json_value(holder[key])

    def _json_value(self, before: Any) -> Any:
        deep: Any = []
        for _ in range(self.random.choice((1, 2, 30, 150))):
            deep = [deep]
        integer = self.integer(-(2**64), 2**64)
        values: list[Any] = [None, True, False, integer, integer, self.real(), self.word(), self.word(), [], {}, deep]
        values += [[before], {self.word(): before}, [before, before], str(before)]
        return self.random.choice(values)


def _places(holder: Any, depth: int = 0) -> Any:
    """Yields each member of a tree of lists and dictionaries, but the deepest: what holds it, and its key there."""
    pairs = holder.items() if isinstance(holder, dict) else enumerate(holder)
    for key, value in pairs:
        yield holder, key
        if isinstance(value, dict | list) and depth < _DEEPEST:
            yield from _places(value, depth + 1)
