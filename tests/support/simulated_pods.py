"""A pod of `pixelserve plan`'s model, simulated request by request with simpy."""

import random
from dataclasses import dataclass, field
from typing import Any

import simpy

from pixelserve.capacity.service import Service


@dataclass
class Seen:
    """What a simulation saw."""

    latencies_s: list[float] = field(default_factory=list)
    """Seconds from each request's arrival to its answer."""
    waits_s: list[float] = field(default_factory=list)
    """Seconds from each request's arrival to the start of its run."""
    runs: int = 0
    """How many runs there were."""

    def percentile_s(self, percent: float) -> float:
        """Returns a percentile of the latencies."""
        return sorted(self.latencies_s)[int(len(self.latencies_s) * percent / 100)]


def simulate(service: Service, rate_per_s: float, requests: int, seed: int) -> Seen:
    """Sends so many requests with exponential gaps to a pod that starts idle."""
    random_ = random.Random(seed)
    environment = simpy.Environment()
    arrived = simpy.Store(environment)
    seen = Seen()
    deviations_s, shares = zip(*service.deviations, strict=True)

    def arrive() -> Any:
        for _ in range(requests):
            yield environment.timeout(random_.expovariate(rate_per_s))
            arrived.put(environment.now)

    def work() -> Any:
        while True:
            batch = [(yield arrived.get())]
            while len(batch) < service.limit and arrived.items:
                batch.append((yield arrived.get()))
            start_s = environment.now
            run_s = service.run_s(len(batch)) + random_.choices(deviations_s, shares)[0]
            yield environment.timeout(max(run_s, 0.0))
            seen.runs += 1
            seen.waits_s += [start_s - each_s for each_s in batch]
            seen.latencies_s += [environment.now - each_s + service.outside_s for each_s in batch]

    environment.process(arrive())
    for _ in range(service.sessions):
        environment.process(work())
    environment.run()
    return seen
