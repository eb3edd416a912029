"""The measured curve: reads what `pixelserve bench --curve --json` wrote, and fits a pod's service to it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from .errors import PlanError
from .service import Service

KIND = "pixelserve-curve"
"""The value of `kind` in the JSON."""
FORMAT = 1
"""The value of `format`; it changes with the meaning of the fields."""
# The largest batches and most sessions for which a queue is solved within 100 MB.
_MOST = 1024
# A curve has a few kilobytes.
_MOST_BYTES = 1 << 20
_MAKE_ONE = "make one with: pixelserve bench --model NAME --curve --json > curve.json"


@dataclass(frozen=True)
class Line:
    """fixed + slope × n, fitted to measurements."""

    fixed: float
    """Its value at 0; not negative."""
    slope: float
    """What 1 more adds; not negative."""

    def at(self, n: float) -> float:
        """Returns its value."""
        return self.fixed + self.slope * n


@dataclass(frozen=True)
class MeasuredCurve:
    """Measurements of one pod."""

    model: str
    """The model's name."""
    version: str
    """Its version."""
    method: str
    """gRPC method as /service/method."""
    images_per_request: int
    """Images in each request."""
    sessions: int
    """Sessions of the model."""
    largest_run: int
    """Most images in a run."""
    levels: tuple[tuple[float, float, float | None], ...]
    """By requests in flight, rising from 1: requests per second, requests per run, processor seconds per request."""
    alone: tuple[tuple[float, float], ...]
    """Latency of a lone request: shares of the requests, from the fastest to the slowest, and their mean seconds."""
    memory_bytes: int | None
    """Bytes of memory under load; None: not measured."""

    @classmethod
    def read(cls, path: Path) -> "MeasuredCurve":
        """Reads a file.

        Raises:
            PlanError: it cannot be read, or is no such curve.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            value = json.loads(data) if len(data) <= _MOST_BYTES else None
        except OSError as error:
            raise PlanError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise PlanError(f"{path}: not a measured curve; {_MAKE_ONE}")
        try:
            return cls.of(value)
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from error

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "MeasuredCurve":
        """Takes the parsed JSON.

        Raises:
            PlanError: it is of another kind, or a field is missing or wrong; the message names the field.
        """
        if value.get("kind") != KIND:
            what = "a single measurement of `pixelserve bench`" if "latency_ms" in value else "not a measured curve"
            raise PlanError(f"{what}; {_MAKE_ONE}")
        if value.get("format") != FORMAT:
            raise PlanError(f"format must be {FORMAT}; this file is of another version of PixelServe: {_MAKE_ONE}")
        images = _whole(value, "images_per_request")
        levels = [_level(each, f"levels[{number}]", images) for number, each in enumerate(_list(value, "levels"))]
        if len(levels) < 2:
            raise PlanError("levels must have two entries or more")
        return cls(
            _text(value, "model"),
            _text(value, "version"),
            _text(value, "method"),
            images,
            _whole(value, "sessions"),
            _whole(value, "largest_run_images"),
            tuple(levels),
            _bands(_list(value, "alone_ms")),
            None if value.get("memory_bytes") is None else _whole(value, "memory_bytes", 2**50),
        )

    @property
    def is_of_pictures(self) -> bool:
        """Whether the server decoded pictures (Classify)."""
        return self.method.endswith("/Classify")

    @property
    def run_line_s(self) -> Line:
        """Seconds from run to run of a server that is never idle, by requests per run.

        Runs alternate between those in flight, so a closed loop of n has runs of about n/2. The time of a run is
        linear in its requests, and so is the mean over runs of different sizes.
        """
        # A single request in flight leaves the server idle while it travels.
        busy = self.levels[1:]
        return _fit([(per_run, per_run / rate_per_s) for rate_per_s, per_run, _ in busy])

    @property
    def cpu_line_s(self) -> Line | None:
        """Processor seconds of a run, by its requests; None: not measured."""
        points = [(per_run, cpu_s * per_run) for _, per_run, cpu_s in self.levels if cpu_s is not None]
        return _fit(points) if len(points) == len(self.levels) else None

    def service(self, batch_images: int | None = None) -> Service:
        """Returns a pod's service.

        Args:
            batch_images: most images in a run; None: as measured.

        Raises:
            PlanError: no run was that large.
        """
        if batch_images is not None and batch_images > self.largest_run:
            raise PlanError(
                f"--batch-images {batch_images}: the largest measured run has {self.largest_run} images; "
                f"measure a server that merges more (pixelserve serve --no-limit-batches)"
            )
        line = self.run_line_s
        alone_s = sum(share * mean_s for share, mean_s in self.alone)
        run_s = self.sessions * line.at(1)
        return Service(
            fixed_s=self.sessions * line.fixed,
            per_request_s=self.sessions * line.slope,
            limit=max(1, (batch_images or self.largest_run) // self.images_per_request),
            sessions=self.sessions,
            outside_s=max(0.0, alone_s - run_s),
            deviations=tuple((max(mean_s - alone_s, -run_s), share) for share, mean_s in self.alone),
        )


def _fit(points: list[tuple[float, float]]) -> Line:
    """Fits a line by least squares of relative errors; neither part is negative."""
    sizes, values = np.array(points).T
    if np.ptp(sizes) < 0.05 * sizes.mean():
        # All runs have about the same size: nothing tells the two parts apart.
        return Line(0.0, float(np.mean(values / sizes)))
    weights = 1.0 / values
    columns = np.stack((weights, sizes * weights), axis=1)
    fixed, slope = np.linalg.lstsq(columns, np.ones(len(points)), rcond=None)[0]
    if fixed < 0:
        return Line(0.0, float(np.mean(values / sizes)))
    return Line(float(fixed), float(slope)) if slope > 0 else Line(float(np.mean(values)), 0.0)


def _level(value: Any, where: str, images: int) -> tuple[float, float, float | None]:
    if not isinstance(value, dict):
        raise PlanError(f"{where} must be an object")
    cpu_ms = value.get("cpu_ms_per_request")
    return (
        _positive(value, "requests_per_s", where),
        max(1.0, _positive(value, "images_per_run", where) / images),
        None if cpu_ms is None else _positive(value, "cpu_ms_per_request", where) / 1e3,
    )


def _bands(value: list[Any]) -> tuple[tuple[float, float], ...]:
    pairs = [each for each in value if isinstance(each, list) and len(each) == 2 and all(map(_is_positive, each))]
    if len(pairs) != len(value) or not pairs or abs(sum(share for share, _ in pairs) - 1) > 1e-6:
        raise PlanError("alone_ms must be pairs of a share and its latency; the shares sum to 1")
    return tuple((float(share), mean_ms / 1e3) for share, mean_ms in pairs)


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise PlanError(f"{name} must be a list")
    return found


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str) or not found:
        raise PlanError(f"{name} must be a string")
    return found


def _whole(value: Mapping[str, Any], name: str, most: int = _MOST) -> int:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= most:
        raise PlanError(f"{name} must be a whole number from 1 to {most}")
    return found


def _positive(value: Mapping[str, Any], name: str, where: str) -> float:
    found = value.get(name)
    if not _is_positive(found):
        raise PlanError(f"{where}.{name} must be a number above 0")
    return found


def _is_positive(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
