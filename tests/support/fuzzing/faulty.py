"""Targets that fail, to test the fuzzer."""

import os

from .mutate import Mutator
from .target import Target


class FaultyTarget(Target):
    """Fails at one in five of its inputs."""

    growth_mib = 64

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, mutator: Mutator) -> bytes:
        return mutator.random.choice((b"good", b"good", b"good", b"good", b"bad"))

    def run(self, data: bytes) -> str:
        if data == b"good":
            return ""
        if self.name == "dies":
            os.abort()
        if self.name == "grows":
            return "" if bytes(200 << 20).replace(b"\0", b"\1") else "nothing was made"
        return "INTERNAL: as it was told to"


def faulty_targets() -> list[Target]:
    """Returns one that answers wrongly, one that takes too much memory, and one that ends the process."""
    return [FaultyTarget(name) for name in ("answers", "grows", "dies")]
