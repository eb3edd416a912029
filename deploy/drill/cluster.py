"""Simulates the parts of a cluster that route traffic to pods and restart them: kubelet and endpoints."""

import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .pods import Pod, Template
from .topology import Loopback, Namespaces

ENDPOINTS_DELAY_S = 1.0
"""Delay from a pod's change to the balancers: endpoint controller, watch and kube-proxy's sync."""
# The chart's readiness probe. Its liveness probe waits a minute, as long as the whole case; here it is 3.
_PROBE_PERIOD_S, _READINESS_FAILURES, _LIVENESS_FAILURES = 2.0, 2, 3
_RESTART_S = 1.0
"""The first back-off after a crash; doubles each time."""
_STUCK_S = 10.0
"""Extra time for a pod to end after its grace."""

Publish = Callable[[list[str]], None]
"""Receives the addresses of the ready pods."""


class Cluster:
    """Starts, deletes and probes pods, restarts crashed or hung ones, and publishes ready ones to balancers.

    Args:
        network: the pods' network.
        folder: for their logs.
        publish: called after each change, `ENDPOINTS_DELAY_S` later.
        termination_s: terminationGracePeriodSeconds; slower pods are killed.
    """

    def __init__(self, network: Namespaces | Loopback, folder: Path, publish: Publish, *, termination_s: float) -> None:
        self._network = network
        self._folder = folder
        self._publish = publish
        self._termination_s = termination_s
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._ready: dict[str, None] = {}
        self._publishing = threading.Lock()
        self._changes = self._published = 0
        self._deleted: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._is_closed = threading.Event()
        self.codes: list[int] = []
        """Exit codes of deleted pods."""
        self.pods: list[Pod] = []
        """The pods that are not deleted."""

    def create(self, template: Template) -> Pod:
        """Starts a pod."""
        name = f"pixelserve-{next(self._numbers)}"
        pod = Pod(name, self._network.place(), template, self._folder / f"{name}.log")
        self.pods.append(pod)
        pod.start()
        self._run(self._probe, pod)
        return pod

    def wait_ready(self, pod: Pod, timeout_s: float) -> bool:
        """Waits until a pod is ready; returns False after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        while pod.address not in self._ready:
            if time.monotonic() > end_s:
                return False
            time.sleep(0.05)
        return True

    def delete(self, pod: Pod) -> None:
        """Deletes a pod like Kubernetes: removes its endpoint and sends SIGTERM simultaneously. Does not wait."""
        self.pods.remove(pod)
        with self._lock:
            self._deleted.add(pod.address)
        self._set_ready(pod, False)
        pod.signal(signal.SIGTERM)
        self._run(self._bury, pod)

    def wait_deleted(self) -> None:
        """Waits until every deleted pod has ended."""
        while len(self.codes) < len(self._deleted):
            time.sleep(0.05)

    def close(self) -> None:
        """Kills every pod."""
        self._is_closed.set()
        for pod in self.pods:
            pod.signal(signal.SIGKILL)
            pod.wait(_STUCK_S)
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[Pod], None], pod: Pod) -> None:
        self._threads.append(threading.Thread(target=work, args=(pod,)))
        self._threads[-1].start()

    def _bury(self, pod: Pod) -> None:
        self.codes.append(pod.wait(self._termination_s))

    def _probe(self, pod: Pod) -> None:
        not_ready = dead = 0
        while not self._is_closed.wait(_PROBE_PERIOD_S) and pod.address not in self._deleted:
            if pod.code is not None:
                not_ready = dead = 0
                self._restart(pod)
            elif pod.is_ready():
                not_ready = dead = 0
                self._set_ready(pod, True)
            else:
                not_ready += 1
                dead = 0 if pod.is_live() else dead + 1
                if not_ready >= _READINESS_FAILURES:
                    self._set_ready(pod, False)
                # Before its first success, a startup probe suspends the liveness probe.
                if dead >= _LIVENESS_FAILURES and pod.has_been_ready:
                    pod.signal(signal.SIGKILL)

    def _restart(self, pod: Pod) -> None:
        self._set_ready(pod, False)
        if not self._is_closed.wait(min(_RESTART_S * 2 ** (pod.starts - 1), 30)) and pod.address not in self._deleted:
            pod.start()

    def _set_ready(self, pod: Pod, is_ready: bool) -> None:
        with self._lock:
            if is_ready == (pod.address in self._ready) or (is_ready and pod.address in self._deleted):
                return
            if is_ready:
                self._ready[pod.address] = None
                pod.has_been_ready = True
            else:
                del self._ready[pod.address]
            self._changes += 1
            change = self._changes, list(self._ready)
        later = threading.Timer(ENDPOINTS_DELAY_S, self._follow, change)
        self._threads.append(later)
        later.start()

    def _follow(self, change: int, ready: list[str]) -> None:
        """Publishes a change, unless a later one overtook it: on a busy machine, timers may be reordered."""
        with self._publishing:
            if change > self._published:
                self._published = change
                self._publish(ready)
