"""What takes part in a race: an engine, a precision, and how they use the cores."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...engine.providers import DEFAULT_ENGINES, PROVIDERS, EngineChoice

_DEVICE = "cpu"


@dataclass(frozen=True)
class Candidate:
    """A way to compute a version."""

    engines: tuple[EngineChoice, ...]
    """What computes, by ascending batch size."""
    threads: int
    """Threads per run."""
    sessions: int
    """Sessions that compute at once."""
    int8_model: Path | None = None
    """The int8 form of the model; None: the version's own file."""

    @property
    def precision(self) -> str:
        """What it computes in, joined by + if small and large batches differ."""
        return "int8" if self.int8_model else "+".join(each.precision for each in self.engines)

    @property
    def engine(self) -> str:
        """What computes, joined likewise."""
        return "+".join(each.engine for each in self.engines)

    @property
    def title(self) -> str:
        """Its name in tables and messages."""
        return f"{self.engine} {self.precision}, {self.sessions} × {self.threads}"

    @property
    def can_be_served(self) -> bool:
        """Whether it computes the version's own file; another file is another version, with a card of its own."""
        return self.int8_model is None


def default_candidate(cores: int) -> Candidate:
    """Returns what computes if nothing is tuned."""
    return Candidate(DEFAULT_ENGINES, cores, 1)


def candidates(cores: int, int8_model: Path | None = None) -> Iterator[Candidate]:
    """Yields the default, then every engine in every precision that this processor computes natively.

    Each with all cores in one run, and with one core in each of as many runs.

    Args:
        cores: cores that a server here would use.
        int8_model: the int8 form of the model, or None.
    """
    layouts = [(cores, 1)] + [(1, cores)] * (cores > 1)
    for threads, sessions in layouts:
        for provider in PROVIDERS:
            if provider.device != _DEVICE or not provider.is_available():
                continue
            native = provider.precisions()
            # int8 is a matter of the file, not of how an engine computes a float32 one.
            for precision in (each for each in native if each != "int8"):
                yield Candidate((EngineChoice(provider.engine, precision),), threads, sessions)
            if int8_model is not None:
                yield Candidate((EngineChoice(provider.engine),), threads, sessions, int8_model)
