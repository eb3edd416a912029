"""How exact each precision is: the one table of its rules, and the processors that compute it natively."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """What a model may change by when it is computed in a precision."""

    rows: float
    """Largest difference of an output element between two batches of the same rows, as a fraction of the largest
    magnitude in that output. Kernels add up in another order for another batch size, which rounding shows; int8 may
    land one quantization step away."""
    output: float
    """Largest difference of an output element from float32's golden one, as a fraction of the largest magnitude in that
    output."""
    mean: float
    """Mean of these differences. A wrong kernel is wrong everywhere, rounding only where a sample is uncertain."""
    accuracy: float
    """Accuracy that a model may lose, a fraction of 1."""


RULES = {
    "float64": Rule(rows=1e-6, output=1e-3, mean=1e-3, accuracy=0.0),
    "float32": Rule(rows=1e-4, output=1e-3, mean=1e-3, accuracy=0.0),
    "float16": Rule(rows=1e-2, output=0.02, mean=2e-3, accuracy=0.003),
    "bfloat16": Rule(rows=5e-2, output=0.1, mean=1e-2, accuracy=0.001),
    "int8": Rule(rows=2e-2, output=0.15, mean=2e-2, accuracy=0.003),
}
"""By precision. Whole numbers and strings must be equal in all of them; docs/tuning.md explains the figures."""


def lowered_precision(precisions: Iterable[str]) -> str | None:
    """Returns the least exact of some precisions, or None if all are float32's or better."""
    lowered = [each for each in precisions if each in RULES and RULES[each].output > RULES["float32"].output]
    return max(lowered, key=lambda each: RULES[each].output, default=None)


# Any of these flags of /proc/cpuinfo means that the processor computes the precision, rather than converting to
# float32 and back; aarch64's are behind x86's.
_FLAGS = {
    "float16": ("avx512_fp16", "amx_fp16", "asimdhp"),
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"),
}
FLAGS = frozenset(flag for flags in _FLAGS.values() for flag in flags) | {"avx2", "avx512f", "asimd"}
"""The processor's flags that decide which engine is fastest."""
_CPU_FACTS = Path("/proc/cpuinfo")
_NAMES = ("model name", "CPU part")


@dataclass(frozen=True)
class Processor:
    """The processor of this machine, as far as it decides which engine is fastest."""

    name: str
    """Its model's name."""
    flags: tuple[str, ...]
    """Those of its flags that are in `FLAGS`, sorted."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that it computes natively; float32 always."""
        return ("float32", *(name for name, flags in _FLAGS.items() if set(flags) & set(self.flags)))


def this_processor(facts: Path = _CPU_FACTS) -> Processor:
    """Returns the processor of this machine; without /proc, one that only has float32.

    Args:
        facts: the file in which Linux describes it.
    """
    try:
        lines = facts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor("unknown", ())
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = next((values[key] for key in _NAMES if key in values), "unknown")
    return Processor(name, tuple(sorted(FLAGS & set(_flags(values)))))


def _flags(values: dict[str, str]) -> Iterable[str]:
    return values.get("flags", values.get("Features", "")).split()
