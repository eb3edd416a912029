"""Simulates p99 and cost for 1 to 200 replicas by balancer, and draws docs/pictures/scaling.png.

    python -m benchmarks.scaling_picture

Replicas follow `pixelserve plan`'s model of a server: one session, runs of up to 4 requests, which take 0.2 ms plus
1.05 ms per request (cifar10 on one core). One run in 200 takes 10 ms longer, as on a node with busy neighbours.
Requests arrive at random. Takes a few minutes of one core.
"""

import argparse
import heapq
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

FIXED_S, PER_REQUEST_S, LIMIT = 0.0002, 0.00105, 4
STALL_S, STALLS = 0.010, 0.005
MOST_PER_S = LIMIT / (FIXED_S + PER_REQUEST_S * LIMIT + STALL_S * STALLS)
REPLICAS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
SHARE = 0.8
"""Load of the left chart, as a share of the replicas' capacity."""
P99_S = 0.015
"""The p99 target of the right chart."""
# In total, and per replica. The first quarter finds idle replicas, and is discarded.
_REQUESTS, _REQUESTS_EACH = 80_000, 800
_PRECISION = 0.02
_SEED = 1
_PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "scaling.png"

Choose = Callable[[list[int], random.Random, int], int]
"""Returns a request's replica, given the requests in flight on each, and the request's number."""


def at_random(in_flight: list[int], chance: random.Random, number: int) -> int:
    """Any replica; also the combined effect of many clients with their own round robin."""
    return chance.randrange(len(in_flight))


def round_robin(in_flight: list[int], chance: random.Random, number: int) -> int:
    """In turn, by one balancer that sees every request."""
    return number % len(in_flight)


def pick_of_two(in_flight: list[int], chance: random.Random, number: int) -> int:
    """Of two random replicas, the one with fewer in flight (Mitzenmacher 2001)."""
    one, other = chance.randrange(len(in_flight)), chance.randrange(len(in_flight))
    return one if in_flight[one] <= in_flight[other] else other


def least_request(in_flight: list[int], chance: random.Random, number: int) -> int:
    """One of the replicas with the fewest in flight."""
    fewest = min(in_flight)
    return chance.choice([replica for replica, count in enumerate(in_flight) if count == fewest])


BALANCERS: dict[str, tuple[Choose, str]] = {
    "random, or many clients' round robin": (at_random, "#d95f02"),
    "round robin by one balancer": (round_robin, "#7570b3"),
    "pick of two": (pick_of_two, "#1b9e77"),
    "least request": (least_request, "#1f77b4"),
}


def p99_s(choose: Choose, replicas: int, share: float) -> float:
    """Returns the simulated p99 in seconds, at a share of the replicas' capacity."""
    # Balancers see the same arrivals and runs, independent of their own random numbers.
    chance, choices = random.Random(_SEED), random.Random(_SEED)  # noqa: S311  # no secrets
    rate_per_s = share * replicas * MOST_PER_S
    in_flight = [0] * replicas
    waiting: list[list[float]] = [[] for _ in range(replicas)]
    runs: list[tuple[float, int, list[float]]] = []
    latencies_s: list[float] = []
    now_s = 0.0

    def start(replica: int, at_s: float) -> None:
        batch, waiting[replica] = waiting[replica][:LIMIT], waiting[replica][LIMIT:]
        stall_s = STALL_S if chance.random() < STALLS else 0.0
        heapq.heappush(runs, (at_s + FIXED_S + PER_REQUEST_S * len(batch) + stall_s, replica, batch))

    for number in range(_REQUESTS + replicas * _REQUESTS_EACH):
        now_s += chance.expovariate(rate_per_s)
        while runs and runs[0][0] <= now_s:
            end_s, replica, batch = heapq.heappop(runs)
            latencies_s += [end_s - arrived_s for arrived_s in batch]
            in_flight[replica] -= len(batch)
            if waiting[replica]:
                start(replica, end_s)
        replica = choose(in_flight, choices, number)
        in_flight[replica] += 1
        waiting[replica].append(now_s)
        if in_flight[replica] == 1:
            start(replica, now_s)
    kept = sorted(latencies_s[len(latencies_s) // 4 :])
    return kept[int(0.99 * len(kept))]


def highest_share(choose: Choose, replicas: int) -> float:
    """Returns the highest share with a p99 within `P99_S`."""
    low, high = 0.0, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if p99_s(choose, replicas, middle) <= P99_S else (low, middle)
    return low


def draw(path: Path, replicas: Sequence[int] = REPLICAS) -> None:
    """Simulates, prints the figures and writes the picture."""
    # A separate figure instead of pyplot's: needs no display and leaves no state.
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (choose, colour) in BALANCERS.items():
        p99s_ms = [p99_s(choose, each, SHARE) * 1e3 for each in replicas]
        shares = [highest_share(choose, each) for each in replicas]
        cores = [1000 / (share * MOST_PER_S) for share in shares]
        print(f"{name}")
        for each, p99_ms, share, core in zip(replicas, p99s_ms, shares, cores, strict=True):
            at_share, at_p99 = f"p99 {p99_ms:.2f} ms at {SHARE:.0%}", f"{share:.0%} at {P99_S * 1e3:g} ms"
            print(f"  {each:>4} replicas: {at_share}; {at_p99}, {core:.2f} cores")
        left.plot(replicas, p99s_ms, marker="o", color=colour, label=name)
        right.plot(replicas, cores, marker="o", color=colour, label=name)
    left.set_ylabel(f"p99 at {SHARE:.0%} of capacity, ms")
    right.set_ylabel(f"cores for 1,000 requests/s with p99 of {P99_S * 1e3:g} ms")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(list(replicas), [str(each) for each in replicas])
        axes.minorticks_off()
        axes.set_xlabel("replicas of one core")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    right.legend(loc="lower left")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=_PICTURE, help="the picture's file")
    draw(parser.parse_args().to)
