"""Targets of the fuzzer: each makes inputs and checks the result."""

from abc import ABC, abstractmethod
from pathlib import Path

from .mutate import Mutator

CORPUS = Path(__file__).resolve().parents[2] / "data" / "fuzz"
"""A folder for each target: inputs that once failed, or that are hard to come by. Each is run first."""


class Target(ABC):
    """One kind of input."""

    name: str
    """Of its folder in the corpus."""
    growth_mib = 256
    """The most by which the process may grow over one input, at its peak."""
    every = 1
    """It is passed over but in every so many rounds: its inputs are slow."""

    @abstractmethod
    def make(self, mutator: Mutator) -> bytes:
        """Returns an input."""

    @abstractmethod
    def run(self, data: bytes) -> str:
        """Returns what is wrong after an input; nothing: it was answered or refused as it should be."""

    def corpus(self) -> dict[str, bytes]:
        """Returns the inputs that are kept, by name."""
        folder = CORPUS / self.name
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))} if folder.is_dir() else {}


def reproducible(seed: int, target: Target, number: int) -> bytes:
    """Returns the input of that number."""
    return target.make(Mutator(f"{seed}-{target.name}-{number}"))
