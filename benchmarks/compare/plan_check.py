"""Compares the predictions of `pixelserve plan` for one server with measurements: p99, p50 and requests waiting.

    python -m benchmarks.compare.plan_check

The server and the load generator have a core each. The generator sends a Poisson process of requests in an open loop.
The curve is measured first, then each load in rounds, in turn. The goal: the median of the rounds' p99 is within 25 %
of the prediction. Keep the machine idle otherwise.
"""

import argparse
import os
import random
import re
import statistics
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from pixelserve.bench import workload
from pixelserve.bench.channels import open_channels
from pixelserve.bench.curve import Curve, measure_curve
from pixelserve.bench.flood import Flood
from pixelserve.bench.http2 import Connection
from pixelserve.bench.overload import Place
from pixelserve.bench.page import MetricsPage
from pixelserve.bench.runs import Runs
from pixelserve.capacity.curve import MeasuredCurve
from pixelserve.capacity.latency import pod_at
from pixelserve.capacity.service import Service
from pixelserve.client import Client, ModelVersion
from pixelserve.client.channel import Configuration
from pixelserve.client.limits import Retry

from . import cores as cores_
from . import ours
from .process import Server

LOADS = (0.3, 0.5, 0.7)
"""Shares of the highest rate."""
_WITHIN = 0.25
_CONNECTIONS = 8


@dataclass(frozen=True)
class Seen:
    """One round at one load."""

    p50_s: float
    """Median latency in seconds."""
    p99_s: float
    """p99 latency in seconds."""
    waiting: float
    """Mean requests in the server's queue, from its metrics."""


def main() -> int:
    """Measures, prints the table, and returns 1 if a p99 misses the goal."""
    options = _options()
    cores = cores_.choose()
    os.sched_setaffinity(0, {cores.load})
    with ours.serve("server", cores, ours.Transport.AUTO) as server:
        with Client([server.address]) as client:
            version = client.models(options.model)[-1]
        chosen = workload.INFER if options.method == "infer" else workload.CLASSIFY
        requests = workload.make(version, chosen, batch=1)
        service, curve = _service(server, version, requests, options.curve_s)
        print("\n".join(curve.lines()), flush=True)
        seen = _rounds(server, version, requests, service, options)
    lines, is_met = _table(service, seen)
    print("\n".join(lines))
    return 0 if is_met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--method", choices=("classify", "infer"), default="infer")
    parser.add_argument("--curve-s", type=float, default=2.0, help="seconds per number in flight")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds per load in a round")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _service(
    server: Server, version: ModelVersion, requests: workload.Workload, seconds: float
) -> tuple[Service, Curve]:
    configuration = Configuration.of(
        [server.address], timeout_s=10.0, retry=Retry(attempts=1), tls=None, token=None, batch_size=1, max_in_flight=1
    )
    page = MetricsPage(ours.metrics_url(server), version.name, version.version)
    with open_channels(configuration) as (channel,):
        levels, memory_bytes = measure_curve(
            requests,
            Place("127.0.0.1", server.port),
            seconds=seconds,
            sizes=Runs(channel, version, 10.0).by_size,
            usage=page.usage,
        )
    curve = Curve(version.name, version.version, requests.method, 1, 1, levels, memory_bytes)
    return MeasuredCurve.of(curve.as_json()).service(), curve


def _rounds(
    server: Server,
    version: ModelVersion,
    requests: workload.Workload,
    service: Service,
    options: argparse.Namespace,
) -> dict[float, list[Seen]]:
    seen: dict[float, list[Seen]] = {load: [] for load in LOADS}
    with ExitStack() as stack:
        connections = []
        for _ in range(_CONNECTIONS):
            connections.append(Connection("127.0.0.1", server.port, requests.method, requests.bodies))
            stack.callback(connections[-1].close)
        flood = Flood(connections)
        for round_ in range(options.rounds):
            for load in LOADS:
                moments_s = list(_poisson(load * service.most_per_s, options.seconds, seed=round_))
                before_s = _queued_s(server, version)
                outcome = flood.due(moments_s, options.seconds)
                waiting = (_queued_s(server, version) - before_s) / options.seconds
                if set(outcome.codes) != {0}:
                    raise SystemExit(f"at {load:.0%}, not every request was answered with OK: {outcome.codes}")
                seen[load].append(Seen(outcome.accepted_s(50), outcome.accepted_s(99), waiting))
    return seen


def _poisson(rate_per_s: float, seconds: float, seed: int) -> Iterator[float]:
    chance = random.Random(seed)  # noqa: S311  # not a secret
    moment_s = chance.expovariate(rate_per_s)
    while moment_s < seconds:
        yield moment_s
        moment_s += chance.expovariate(rate_per_s)


def _queued_s(server: Server, version: ModelVersion) -> float:
    """Returns the total seconds that requests have waited."""
    with urllib.request.urlopen(ours.metrics_url(server), timeout=10) as answer:
        text = answer.read().decode()
    labels = re.escape(f'{{model="{version.name}",version="{version.version}"}}')
    found = re.search(rf"^pixelserve_queue_duration_seconds_sum{labels} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _table(service: Service, seen: dict[float, list[Seen]]) -> tuple[list[str], bool]:
    lines = [
        "",
        f"a run of n requests: {service.fixed_s * 1e3:.3f} ms + n × {service.per_request_s * 1e3:.3f} ms, n up to "
        f"{service.limit}; at most {service.most_per_s:,.0f} requests/s",
        "",
        "| load | requests/s | p99 predicted | p99 measured (lowest to highest) | off by | p50 predicted | measured "
        "| waiting predicted | measured | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    is_met = True
    for load, rounds in seen.items():
        rate_per_s = load * service.most_per_s
        pod = pod_at(service, rate_per_s)
        p99s = sorted(each.p99_s for each in rounds)
        predicted, measured = pod.percentile_s(99), statistics.median(p99s)
        off = predicted / measured - 1
        is_met = is_met and abs(off) <= _WITHIN
        lines.append(
            f"| {load:.0%} | {rate_per_s:,.0f} | {predicted * 1e3:.2f} ms | {measured * 1e3:.2f} ms "
            f"({p99s[0] * 1e3:.2f} to {p99s[-1] * 1e3:.2f}) | {off:+.0%} "
            f"| {pod.percentile_s(50) * 1e3:.2f} ms | {statistics.median(each.p50_s for each in rounds) * 1e3:.2f} ms "
            f"| {pod.waiting:.2f} | {statistics.median(each.waiting for each in rounds):.2f} "
            f"| {'yes' if abs(off) <= _WITHIN else 'no'} |"
        )
    return lines, is_met


if __name__ == "__main__":
    sys.exit(main())
