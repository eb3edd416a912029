"""The process that runs inputs. It may crash or hang; its supervisor knows the current input."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from .target import Target, reproducible

_MOST_MEMORY = 12 << 30
"""Bytes of address space: an input that takes everything must not end the machine."""
_SETTLED = 2000
"""Inputs after which everything has been used once."""
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@contextmanager
def targets(kind: str) -> Iterator[list[Target]]:
    """Builds the targets of a kind: calls, rest, files or pictures."""
    # Imported here: what watches workers needs none of it.
    from .calls import call_targets
    from .faulty import faulty_targets
    from .files import file_targets
    from .images import image_targets
    from .pictures import PictureTarget
    from .rest import RestTarget
    from .server import InProcessServer

    with tempfile.TemporaryDirectory() as folder, _region():
        if kind == "pictures":
            yield [PictureTarget()]
        elif kind == "faulty":
            yield faulty_targets()
        elif kind == "files":
            yield [*file_targets(Path(folder)), *image_targets(Path(folder))]
        else:
            server = InProcessServer(Path(folder))
            yield call_targets(server) if kind == "calls" else [RestTarget(server)]


@contextmanager
def _region() -> Iterator[None]:
    """Keeps a shared memory object that requests may name."""
    path = Path("/dev/shm/fuzz-region")
    path.write_bytes(bytes(64))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def memory_mib(field: str) -> float:
    """Returns what this process holds (VmRSS) or the most that it has held (VmHWM)."""
    found = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(found.split()[1]) / 1024


def check(target: Target, data: bytes) -> str:
    """Runs one input; returns what is wrong, which may be how much memory it took."""
    _CLEAR.write_text("5")
    before_mib = memory_mib("VmRSS")
    problem = target.run(data)
    grown_mib = memory_mib("VmHWM") - before_mib
    if not problem and grown_mib > target.growth_mib:
        return f"took {grown_mib:.0f} MiB at its peak; at most {target.growth_mib} are expected"
    return problem


def work(kind: str, only: frozenset[str], seed: int, first: int, last: int, seconds: float, current: Path) -> None:
    """Computes inputs and prints, a JSON line each, what is wrong and how far it has come.

    Args:
        kind: of targets.
        only: names of targets; empty: all.
        seed: of all inputs.
        first: number of the first input; 0: those of the corpus before it.
        last: number of the last input.
        seconds: how long, at most.
        current: a file that is kept to the input that is being computed.
    """
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    with targets(kind) as found:
        chosen = [target for target in found if not only or target.name in only]
        if first == 0:
            for target in chosen:
                for name, data in target.corpus().items():
                    _compute(target, name, data, current)
        end_s = time.monotonic() + seconds
        start_mib = said_s = 0.0
        computed = 0
        for number, target in _numbered(chosen, first):
            if number > last or time.monotonic() > end_s:
                break
            # Making one may hang too, which must not be laid to the input before it.
            current.write_bytes(f"{target.name} {number}\n".encode())
            _compute(target, number, reproducible(seed, target, number), current)
            computed += 1
            start_mib = memory_mib("VmRSS") if computed == _SETTLED else start_mib
            if time.monotonic() - said_s > 1:
                said_s = time.monotonic()
                _say(number=number, count=computed, memory_mib=memory_mib("VmRSS"), start_mib=start_mib)
        _say(number=number, count=computed, memory_mib=memory_mib("VmRSS"), start_mib=start_mib, is_over=True)


def _numbered(chosen: list[Target], first: int) -> Iterator[tuple[int, Target]]:
    """Yields the number of each input from `first` on, and its target: one after the other, slow ones seldom."""
    for number in count(first):
        round_, index = divmod(number, len(chosen) or 1)
        if chosen and round_ % chosen[index].every == 0:
            yield number, chosen[index]


def _compute(target: Target, number: int | str, data: bytes, current: Path) -> None:
    current.write_bytes(f"{target.name} {number}\n".encode() + data)
    if problem := check(target, data):
        _say(target=target.name, input=number, problem=problem, data=data.hex())


def _say(**fields: Any) -> None:
    # Libraries print to stdout too.
    print(json.dumps(fields), file=sys.__stdout__, flush=True)
