"""A plan: pods, CPU, memory and scaling for a rate within a p99, from a measured curve."""

import math
from dataclasses import dataclass

from .curve import MeasuredCurve
from .errors import PlanError
from .latency import HIGHEST_SHARE, highest_rate_per_s, pod_at
from .service import Service

MAX_INFLIGHT_MIB = 512
"""MiB of requests that a server works on at most: its default --max-inflight-mib."""
MAX_DECODE_MIB = 1024
"""MiB of pictures that it decodes at a time at most: its default --max-decode-mib."""
WARMUP_MIB = 256
"""MiB that loading a version takes at most while others serve: its default --warmup-mib."""
MOST_PODS = 150_000
"""Pods of a cluster, by Kubernetes' documentation of large clusters."""
_MIB = 2**20
_MEMORY_STEP_MIB = 64
# Measured processor time is a few per cent above the cores in use; that is no reason for one more.
_CORE_TOLERANCE = 0.1
# A surge of twice the planned rate still finds pods.
_SURGE = 2
# Below, a single slow run in a minute would start a pod.
_LEAST_TARGET = 0.05
# A lone request: far below any rate that a pod is planned for.
_IDLE_SHARE = 1e-4


@dataclass(frozen=True)
class Goal:
    """The load and latency that the pods must meet together."""

    rate_per_s: float
    """Requests per second."""
    p99_s: float
    """Seconds within which 99 of 100 requests are answered."""
    spare_pods: int = 1
    """Pods that may be lost while that holds."""


@dataclass(frozen=True)
class Load:
    """A pod at its share of the rate."""

    pods: int
    """Pods that share the rate."""
    rate_per_s: float
    """Requests per second of each."""
    utilisation: float
    """Share of the time that it computes, 0 to 1."""
    requests_per_run: float
    """Mean requests in a run."""
    waiting: float
    """Mean requests that wait in it."""
    p99_s: float
    """Seconds within which 99 of 100 requests are answered."""


@dataclass(frozen=True)
class Plan:
    """The pods to run."""

    goal: Goal
    """The goal."""
    curve: MeasuredCurve
    """The curve it is computed from."""
    service: Service
    """The pod, as fitted to the curve."""
    highest_per_s: float
    """Requests per second that a pod takes within the p99."""
    normal: Load
    """With all pods."""
    reduced: Load
    """With the spare pods lost."""

    @property
    def pods(self) -> int:
        """Pods to run."""
        return self.normal.pods

    @property
    def most_pods(self) -> int:
        """Pods that autoscaling may reach."""
        return _SURGE * self.pods

    @property
    def is_limited_by_throughput(self) -> bool:
        """Whether more computing per pod would be needed for fewer pods; otherwise the p99 limits them."""
        return self.highest_per_s >= 0.999 * HIGHEST_SHARE * self.service.most_per_s

    @property
    def target_waiting(self) -> float:
        """Mean requests waiting per pod that autoscaling aims at: as planned, to two digits, 0.05 at least."""
        return max(_LEAST_TARGET, float(f"{self.normal.waiting:.2g}"))

    @property
    def cpu_s_per_request(self) -> float | None:
        """Processor seconds per request with the spare pods lost; None: not measured."""
        line = self.curve.cpu_line_s
        per_run = self.reduced.requests_per_run
        return None if line is None else line.at(per_run) / per_run

    @property
    def busy_cores(self) -> float | None:
        """Cores that a pod uses while it computes; None: not measured."""
        cpu_s = self.cpu_s_per_request
        return None if cpu_s is None else cpu_s * self.reduced.rate_per_s / self.reduced.utilisation

    @property
    def cores(self) -> int | None:
        """Whole cores of a pod, as the server has a thread for each; None: not measured."""
        busy = self.busy_cores
        return None if busy is None else max(1, math.ceil(busy - _CORE_TOLERANCE))

    @property
    def memory_parts_mib(self) -> dict[str, int] | None:
        """MiB of memory of a pod, by what takes them; None: not measured."""
        if self.curve.memory_bytes is None:
            return None
        parts = {
            "measured under load": math.ceil(self.curve.memory_bytes / _MIB),
            "--max-inflight-mib": MAX_INFLIGHT_MIB,
            "--warmup-mib": WARMUP_MIB,
        }
        return parts | ({"--max-decode-mib": MAX_DECODE_MIB} if self.curve.is_of_pictures else {})

    @property
    def memory_mib(self) -> int | None:
        """MiB of memory of a pod; None: not measured."""
        parts = self.memory_parts_mib
        return None if parts is None else math.ceil(sum(parts.values()) / _MEMORY_STEP_MIB) * _MEMORY_STEP_MIB


def make(curve: MeasuredCurve, goal: Goal, batch_images: int | None = None) -> Plan:
    """Makes a plan.

    Args:
        curve: one pod, measured.
        goal: the total load and the latency to meet.
        batch_images: most images in a run; None: as measured.

    Raises:
        PlanError: no number of pods keeps the p99, a cluster cannot hold as many, or the batch is larger than measured.
    """
    service = curve.service(batch_images)
    alone_s = pod_at(service, _IDLE_SHARE * service.most_per_s).percentile_s(99)
    highest_per_s = highest_rate_per_s(service, goal.p99_s) if alone_s <= goal.p99_s else 0.0
    if not highest_per_s:
        raise PlanError(
            f"no number of pods keeps a p99 of {goal.p99_s * 1e3:g} ms: a request that is alone in a pod has a p99 of "
            f"{alone_s * 1e3:.3g} ms; allow more, or serve a smaller model or faster cores"
        )
    needed = math.ceil(goal.rate_per_s / highest_per_s)
    pods = needed + goal.spare_pods
    if pods > MOST_PODS:
        raise PlanError(
            f"{goal.rate_per_s:g} requests/s take {pods:.3g} pods of {highest_per_s:,.0f} requests/s each; "
            f"Kubernetes supports {MOST_PODS:,} pods in a cluster: plan for a part of the load, or for larger pods"
        )
    return Plan(goal, curve, service, highest_per_s, _load(service, goal, pods), _load(service, goal, needed))


def _load(service: Service, goal: Goal, pods: int) -> Load:
    rate_per_s = goal.rate_per_s / pods
    pod = pod_at(service, rate_per_s)
    return Load(pods, rate_per_s, pod.utilisation, pod.requests_per_run, pod.waiting, pod.percentile_s(99))
