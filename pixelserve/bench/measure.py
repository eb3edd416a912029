"""Runs one measurement."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from .errors import BenchError, NoModelError
from .loops import ClosedLoop, Extent, OpenLoop
from .record import OK, Record
from .report import Report
from .sender import LoadSender
from .timeline import RealTime
from .workload import Workload

if TYPE_CHECKING:
    from pixelserve.client import ModelVersion


@dataclass(frozen=True)
class Load:
    """The load: a concurrency or a rate."""

    concurrency: int
    """Requests in flight; ignored if there is a rate."""
    rate_per_s: float | None = None
    """Requests per second; None: `concurrency` decides."""

    def __str__(self) -> str:
        """Returns it in words."""
        return f"{self.concurrency} in flight" if self.rate_per_s is None else f"{self.rate_per_s:g} requests/s"


def choose(versions: "Sequence[ModelVersion]", name: str, version: str) -> "ModelVersion":
    """Returns a model's version by number or alias, or its newest ready one.

    Raises:
        NoModelError: there is none.
    """
    for one in reversed(versions):
        if one.is_ready and version in ("", one.version, *one.aliases):
            return one
    if not versions:
        raise NoModelError(f"the server has no model {name}; `pixelserve models list` shows what it has")
    known = ", ".join(f"version {one.version}: {one.state} {one.reason}".rstrip() for one in versions)
    wanted = f"version {version} of {name}" if version else f"no version of {name}"
    raise NoModelError(f"{wanted} is {'not ' if version else ''}ready; the server has {known}")


def measure(
    version: "ModelVersion",
    workload: Workload,
    load: Load,
    extent: Extent,
    *,
    channels: Sequence[grpc.Channel],
    timeout_s: float,
    metadata: Sequence[tuple[str, str]] = (),
) -> Report:
    """Sends the load and returns the report.

    Raises:
        BenchError: the first request failed, or no request was answered.
    """
    sender = LoadSender(channels, workload, timeout_s=timeout_s, metadata=metadata)
    sender.connect()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    record = _run(sender, load, extent)
    cores = (time.process_time() - cpu_s) / max(time.perf_counter() - wall_s, 1e-9)
    if not record.by_status[OK]:
        raise BenchError(f"no request was answered: {_counts(record) or 'none was sent'}")
    return Report(version.name, version.version, workload.method, str(load), workload.images, record, cores)


def _run(sender: LoadSender, load: Load, extent: Extent) -> Record:
    timeline = RealTime()
    with timeline.taking_ctrl_c():
        if load.rate_per_s is None:
            return ClosedLoop(sender.send, timeline, concurrency=load.concurrency).run(extent)
        return OpenLoop(sender.send, timeline, rate_per_s=load.rate_per_s).run(extent)


def _counts(record: Record) -> str:
    return ", ".join(f"{status} {count:,} times" for status, count in record.errors.items())
