"""The engine under a load that doubles and halves, on a virtual clock: latencies, rates and batches.

The batcher, its queue and workers are the real ones; threads, time and the model are not. Requests of one row arrive at
random (Poisson). Runs take the curve's time, an overhead, random variation, and rare stalls that no curve knows.

    make simulate-latency
    make simulate-latency ARGS="--model 'a GPU'"
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from virtual_time import Task, World, wakeups

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Answer, Layout, Request
from pixelserve_server.engine.run import Run
from pixelserve_server.errors import RequestError

US, MS, S = 10**3, 10**6, 10**9
LAYOUT = Layout(["x"], [np.dtype(np.int8)], [()])
PIXELS = (np.zeros(1, np.int8),)
LEVELS = (0.5, 1.0, 2.0, 4.0, 2.0, 1.0, 0.5)
"""The load, as multiples of the capacity."""
SETTLE_S = 1.0
"""Time at the start of a level that its steadiness does not count."""


@dataclass(frozen=True)
class Model:
    """A model's run times, and how they differ from those at load."""

    name: str
    """In tables."""
    base_us: float
    """Microseconds of a run, beside its rows."""
    row_us: float
    """Microseconds of each row."""
    target_ms: float
    """The latency target to try, in milliseconds."""
    slower: float = 1.0
    """Ratio of its run times to those at load."""
    most: int = 64
    """Its max_batch_size."""
    overhead_us: float = 150.0
    """Microseconds that the server adds to each run."""
    spread: float = 0.1
    """Standard deviation of the logarithm of run times."""
    stalls: float = 0.0005
    """Share of runs that take three to six times as long."""
    seconds: float = 4.0
    """Duration of each level; shorter for fast models, of which a second has more requests."""

    @property
    def curve(self) -> LatencyCurve:
        """Run times as measured at load."""
        sizes = [1 << power for power in range(self.most.bit_length())]
        return LatencyCurve(tuple(sizes), tuple(int((self.base_us + size * self.row_us) * US) for size in sizes))

    def mean_ns(self, rows: int) -> float:
        """Mean time of a run."""
        each_us = (self.base_us + rows * self.row_us) * self.slower * math.exp(self.spread**2 / 2)
        return (each_us * (1 + 3.5 * self.stalls) + self.overhead_us) * US

    @property
    def capacity_per_s(self) -> float:
        """Requests per second in runs of the largest size."""
        return self.most / self.mean_ns(self.most) * S


MODELS = (
    Model("mnist-cnn", 8, 28, 10, seconds=2),
    Model("cifar10", 235, 1073, 40),
    Model("cifar10, a tight target", 235, 1073, 8),
    Model("cifar10 beside a neighbour", 235, 1073, 60, slower=1.8, spread=0.25, stalls=0.001),
    Model("a GPU", 2000, 20, 12, overhead_us=300, seconds=2),
    Model("a GPU, a tight target", 2000, 20, 5, overhead_us=300, seconds=2),
)


@dataclass(frozen=True)
class Setting:
    """How the engine is set."""

    target_ms: float = 0.0
    """The latency target; 0: none."""
    limit: int = 0
    """A fixed batch limit; 0: the engine's."""
    queue: int = 1024
    """Requests that may wait."""


@dataclass
class LevelOutcome:
    """What became of a level's requests."""

    times: float
    """The load, as a multiple of the capacity."""
    sent: int = 0
    """Requests sent."""
    latencies_s: list[float] = field(default_factory=list)
    """Latencies of accepted requests, from arrival to answer."""
    by_second: list[int] = field(default_factory=list)
    """Accepted requests answered in each quarter of a second, by their arrival."""

    @property
    def p99_s(self) -> float:
        """Seconds that 99 of 100 accepted requests took at most."""
        return sorted(self.latencies_s)[math.ceil(len(self.latencies_s) * 0.99) - 1] if self.latencies_s else math.inf

    def within(self, seconds: float) -> int:
        """Accepted requests that took no longer."""
        return sum(each <= seconds for each in self.latencies_s)

    @property
    def swing(self) -> float:
        """Largest difference of a half second's accepted requests from their mean, as a share, once settled."""
        settled = self.by_second[int(SETTLE_S * 2) :]
        mean = sum(settled) / len(settled)
        return max(abs(each - mean) for each in settled) / mean if mean else math.inf


class Session:
    """Takes the time that the simulation gives it."""

    def run(self, inputs: Any) -> Any:
        return {"y": inputs["x"]}


class SimulatedRequest(Request):
    """One row, whose outcome its level counts."""

    def __init__(self, load: "SimulatedLoad", level: LevelOutcome, second: int) -> None:
        self.load, self.level, self.second = load, level, second
        self.layout, self.buffers, self.rows = LAYOUT, PIXELS, 1
        self.deadline_ns, self.arrived_ns = None, load.world.now_ns
        self.on_done = self._done

    def _done(self, answer: Answer | RequestError) -> None:
        if isinstance(answer, Answer):
            self.level.latencies_s.append((self.load.world.now_ns - self.arrived_ns) / S)
            self.level.by_second[self.second] += 1


class SimulatedLoad:
    """One model, served on one session."""

    def __init__(self, model: Model, setting: Setting, seed: int = 1) -> None:
        self.world, self.model = World(seed), model
        policy = BatchingPolicy(
            setting.limit or model.most,
            True,
            QueuePolicy(setting.queue),
            limit_batches=not setting.limit,
            shed_delay_s=1.0,
            run_on_arrival=False,
            target_p99_s=setting.target_ms / 1e3,
        )
        instance = Instance(Session())
        self.batcher = Batcher(
            "m",
            [instance],
            policy,
            self,
            self._log_failure,
            curve=model.curve,
            clock_ns=self.world.clock_ns,
            wakeups=wakeups(self.world),
        )
        self._scheduler, self._workers = self.batcher._scheduler, self.batcher._workers
        self._scheduler.join()
        Task(self.world, partial(self._work, instance, []))
        self.levels: list[LevelOutcome] = []
        self.given_up = 0
        """Requests that were accepted, and dropped after a stall."""

    def run(self, times: Sequence[float] = LEVELS, seconds: float = 0.0) -> list[LevelOutcome]:
        """Sends requests at multiples of the capacity, each for `seconds` (0: the model's); returns the outcomes."""
        seconds = seconds or self.model.seconds
        start_ns, draw = self.world.now_ns, self.world.random
        for number, level_times in enumerate(times):
            level = LevelOutcome(level_times, by_second=[0] * math.ceil(seconds * 2))
            self.levels.append(level)
            at_s = 0.0
            while (at_s := at_s + draw.expovariate(level_times * self.model.capacity_per_s)) < seconds:
                when_ns = start_ns + int((number * seconds + at_s) * S)
                self.world.after(when_ns - self.world.now_ns, partial(self._send, level, int(at_s * 2)))
        self.world.run()
        return self.levels

    def _send(self, level: LevelOutcome, second: int) -> None:
        level.sent += 1
        self.batcher.submit_all([SimulatedRequest(self, level, second)])

    def _work(self, own: Instance[Session], taken: list[Run]) -> int | None:
        if taken:
            self._workers.execute(taken.pop())
        run = self._workers.take(own)
        if run is None:
            return None
        taken.append(run)
        return self._run_ns(run.rows)

    def _run_ns(self, rows: int) -> int:
        model, draw = self.model, self.world.random
        run_us = (model.base_us + rows * model.row_us) * model.slower * draw.lognormvariate(0, model.spread)
        stalled = draw.uniform(3, 6) if draw.random() < model.stalls else 1.0
        return int((run_us * stalled + model.overhead_us) * US)

    def _log_failure(self, error: BaseException) -> str:
        raise error

    def on_batch(self, record: Any) -> None:
        pass

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        self.given_up += 1

    on_worker_restarted = on_session_rebuilt = partial(_log_failure, AssertionError("a fault"))


def fixed_settings(model: Model) -> Iterator[Setting]:
    """Yields settings that a careful operator might try; queue delays are not among them, for they change nothing."""
    sizes = [size for size in model.curve.sizes if model.mean_ns(size) < model.target_ms * MS]
    for limit in sizes or [1]:
        for queue in sorted({max(1, int(limit * share)) for share in (0.25, 0.5, 1, 2)}):
            yield Setting(limit=limit, queue=queue)


def best_fixed(model: Model, tried: Sequence[Sequence[LevelOutcome]]) -> list[LevelOutcome | None]:
    """Returns, for each level, the most that a fixed setting accepts while it keeps the target to 1.1 times."""
    best: list[LevelOutcome | None] = [None] * len(LEVELS)
    for levels in tried:
        for number, level in enumerate(levels):
            before = best[number]
            keeps = level.p99_s <= 1.1 * model.target_ms / 1e3
            if keeps and (before is None or len(level.latencies_s) > len(before.latencies_s)):
                best[number] = level
    return best


def table(model: Model, say: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """Yields the lines of a model's table; its simulations run on all cores.

    Args:
        model: the model.
        say: is called with what is being done.
    """
    target_s = model.target_ms / 1e3
    settings = [Setting(target_ms=model.target_ms), Setting(), *fixed_settings(model)]
    with ProcessPoolExecutor() as pool:
        running = [pool.submit(_outcomes, model, setting) for setting in settings]
        for done, _ in enumerate(as_completed(running), start=1):
            say(f"{model.name}: {done} of {len(settings)} settings")
        kept, plain, *fixed = (each.result() for each in running)
    yield f"{model.name}: target {model.target_ms:g} ms, capacity {model.capacity_per_s:,.0f} requests/s"
    yield "   load  p99/target  without   accepted/s   of the best fixed  swing"
    for with_it, without, best in zip(kept, plain, best_fixed(model, fixed), strict=True):
        share = "–" if best is None else f"{len(with_it.latencies_s) / len(best.latencies_s):.2f}"
        yield (
            f"{with_it.times:>5g} x {with_it.p99_s / target_s:>10.2f} {without.p99_s / target_s:>8.1f}"
            f" {len(with_it.latencies_s) / model.seconds:>12,.0f} {share:>19} {with_it.swing:>6.2f}"
        )


def _outcomes(model: Model, setting: Setting) -> list[LevelOutcome]:
    return SimulatedLoad(model, setting).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    by_name = {model.name: model for model in MODELS}
    parser.add_argument("--model", action="append", choices=by_name, help="may be repeated; default: all, in minutes")
    for name in parser.parse_args().model or by_name:
        for line in table(by_name[name], lambda said: print(said, file=sys.stderr, flush=True)):
            print(line, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
