"""The engine on a virtual clock, in one thread, with seeded faults.

The batcher, its queue and workers, the timer and drains are the real ones; only threads, time and sessions are not.
Sessions raise, hang, break, and cannot be rebuilt; callers leave, cannot be answered, and send more from within their
answers; the clock jumps; versions are swapped. Each promise is checked when it could be broken, not at the end.

    make simulate ARGS="--requests 1_000_000 --seed 1"
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from virtual_time import Parked, Task, World, require, wakeups

from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.curve import LatencyCurve
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.request import Answer, Layout, Request
from pixelserve_server.engine.run import Run
from pixelserve_server.engine.timer import Timer
from pixelserve_server.errors import DeadlineExceeded, RequestError

US, MS, S = 10**3, 10**6, 10**9
LAYOUTS = [Layout(["x"], [np.dtype(np.int64)], [(width,)]) for width in (1, 2)]
CURVE = LatencyCurve((1, 4, 16), (100 * US, 200 * US, 400 * US))
# What the session itself takes: seldom longer than may be done on the arriving thread.
COMPUTE_NS = [0, 10 * US, 50 * US, 200 * US] * 25 + [400 * US]
# How late a timer's thread may run, and how long what it does may take.
LATE_NS = 50 * MS


class SimulatedRequest(Request):
    """A request that knows what may become of it."""

    def __init__(self, engine: "Engine", number: int, rows: int, layout: Layout) -> None:
        self.engine, self.number, self.rows, self.layout = engine, number, rows, layout
        first = number * 64
        self.expected = np.arange(first, first + rows * layout.tails[0][0])
        self.buffers = (self.expected.reshape(rows, -1),)
        self.deadline_ns, self.arrived_ns = None, engine.world.now_ns
        self.is_answered, self.on_done = False, self._done
        self.state = "new"
        """new, accepted, refused, running or answered."""
        self.version: Version | None = None
        self.ticket = -1

    @staticmethod
    def succeed_all(requests: Any, batch: Any, log_failure: Any, first_row: int = 0) -> None:
        engine = requests[0].engine
        if not (engine.has_faults and engine.world.random.random() < 0.01):
            Request.succeed_all(requests, batch, log_failure, first_row)
            return
        Request.succeed_all(requests[: len(requests) // 2], batch, log_failure, first_row)
        raise RuntimeError("answers that cannot be written")

    def _done(self, answer: Answer | RequestError) -> None:
        require(self.state != "answered", "a request is answered once")
        require(self.state != "refused", "a refused request is not answered")
        self.state = "answered"
        self.engine.answered(self, answer)


class Session:
    """Doubles its input, if it does anything."""

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.is_broken, self.is_running = engine, False, False

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        require(not self.is_running, "a session has one run at a time")
        fault = self.engine.draw_fault()
        if self.is_broken or fault == "raises":
            raise ValueError("a fault")
        if fault == "dies":
            raise SystemExit
        x = inputs["x"]
        return {"y": x[:-1] * 2 if fault == "mismatch" else x * 2}

    def check(self) -> None:
        self.engine.take_time(2 * MS)
        if self.is_broken:
            raise ValueError("a broken session")


class Version:
    """A batcher with its workers; the next version takes its place."""

    def __init__(self, engine: "Engine") -> None:
        self.engine, self.world, draw = engine, engine.world, engine.world.random
        self.policy = draw_policy(draw)
        self.unanswered = self.last_ticket = 0
        instances = [self._instance() for _ in range(draw.choice([1, 1, 2, 3]))]
        self.batcher = Batcher(
            "m",
            instances,
            self.policy,
            engine,
            engine.log_failure,
            curve=CURVE,
            timer=engine.timer,
            clock_ns=self.world.clock_ns,
            wakeups=wakeups(self.world),
        )
        self.scheduler, self.workers = self.batcher._scheduler, self.batcher._workers
        self.tasks = []
        for instance in instances:
            self.scheduler.join()
            self.tasks.append(Task(self.world, partial(self._work, instance, [])))
        self.has_drained = False
        self._closed = False

    def _instance(self) -> Instance[Session]:
        def rebuild() -> Session:
            if self.engine.has_faults and self.world.random.random() < 0.3:
                raise FileNotFoundError("the file has gone")
            return Session(self.engine)

        return Instance(Session(self.engine), check=Session.check, rebuild=rebuild)

    def _work(self, own: Instance[Session], taken: list[Run]) -> int | None:
        """A worker's step: takes a run, or ends the one that it has taken."""
        if taken:
            run = taken.pop()
            run.instance._session.is_running = False
            self.workers.execute(run)
            self.check()
        next_run = self.workers.take(own)
        if next_run is None:
            self.scheduler.leave()
            return None
        self.check_taken(next_run)
        next_run.instance._session.is_running = True
        taken.append(next_run)
        return self.engine.draw_run_ns(next_run.rows)

    def check_taken(self, run: Run) -> None:
        limit = self.policy.max_batch_size
        require(not run.instance._session.is_running, "a session has one run at a time")
        require(
            len(run.requests) == 1 or (self.policy.merge and run.rows <= limit), "a run is no larger than it may be"
        )
        for request in run.requests:
            require(request.state == "accepted", "what runs was accepted, and is not answered")
            require(request.deadline_ns is None or request.deadline_ns > run.taken_ns, "no expired request runs")
            request.state, request.ticket = "running", run.ticket

    def check(self) -> None:
        """No wake-up is lost: where work waits for a free session, a worker is awake, or will be."""
        if self.scheduler.waiting and self.scheduler._free:
            awake = [task for task in self.tasks if not task.has_ended and (task.place is None or task.is_timed)]
            require(awake, "a worker is awake while a request waits for a free session")

    def drain(self) -> None:
        self.engine.draining.append(self)
        Task(self.world, self._drain)

    def _drain(self) -> int | None:
        if not self._closed:
            self.scheduler.close()
            self._closed = True
            # Too short, mostly: then the next step waits without an end.
            if self.scheduler.wait_until_idle(0):
                self._has_drained()
                return None
            return 1
        self.scheduler.wait_until_idle(None)
        self._has_drained()
        return None

    def _has_drained(self) -> None:
        require(not self.unanswered, "a drain ends when all accepted requests are answered")
        require(not self.scheduler._free, "a drained batcher keeps no session")
        self.has_drained = True
        self.engine.draining.remove(self)


class Engine:
    """The world's only model; its observer and its log of failures too."""

    def __init__(self, seed: int, requests: int) -> None:
        self.world = World(seed)
        self.seen: Counter[str] = Counter()
        self.has_faults = True
        self.timer = Timer(self.log_failure, clock_ns=self.world.clock_ns, wakeups=wakeups(self.world))
        self._timer_task = Task(self.world, self._ring)
        self.draining: list[Version] = []
        self.version = Version(self)
        self._left = requests
        self._number = self._depth = 0
        self._badness = self.world.random.choice([1, 1, 10])
        self._jumped_ns = 0
        self._is_on_arrival = False

    def run(self) -> Counter[str]:
        """Simulates; returns how often each thing happened."""
        self.world.after(0, self._clients)
        self.world.run()
        # All that was accepted before the end is answered without one.
        require(not self.version.unanswered, "every accepted request is answered once faults have ended")
        require(not self.draining, "every drain ends")
        self.version.drain()
        self.world.run()
        require(not self.draining, "the last drain ends")
        self.timer._closed = True
        with self.timer._lock:
            self.timer._changed.wake()
        self.world.run()
        require(self._timer_task.has_ended, "the timer ends")
        require(self.seen["accepted"] == self.seen["answered"], "as many are answered as were accepted")
        return self.seen

    def _ring(self) -> int | None:
        while (function := self.timer.next()) is not None:
            self.timer.call(function)
        return None

    # Clients.

    def _clients(self) -> None:
        draw, version = self.world.random, self.version
        # Most callers have the version that serves, and some one that is being unloaded.
        if self.draining and draw.random() < 0.1:
            version = draw.choice(self.draining)
        self._send(version, draw.choice([1, 1, 1, 2, 4, 16, 64]))
        self._happen()
        if self._left > 0:
            self.world.after(int(draw.expovariate(1 / draw.choice([100 * US, MS, 3 * MS]))), self._clients)
        else:
            self.has_faults = False

    def _send(self, version: Version, count: int) -> None:
        draw = self.world.random
        requests = [self._request(version) for _ in range(min(count, self._left))]
        self._left -= len(requests)
        if len(requests) == 1 and draw.random() < 0.8:
            request = requests[0]
            try:
                self._send_alone(version, request)
                refused: Any = ()
            except RequestError as error:
                refused = ((request, error),)
        else:
            refused = version.batcher.submit_all(requests)
        for request, error in refused:
            require(request.state == "accepted", "a refused request is not answered")
            request.state = "refused"
            version.unanswered -= 1
            self.seen["accepted"] -= 1
            self.seen[f"refused: {type(error).__name__}"] += 1
        levels = range(1, version.policy.priority_levels + 1)
        most = sum(version.policy.queue_of(level).max_queue_size for level in levels)
        require(version.batcher.waiting <= most, "the queue is bounded")
        version.check()

    def _send_alone(self, version: Version, request: SimulatedRequest) -> None:
        """Does what `Batcher.submit` does, but that others go on while the arriving thread computes."""
        run = version.scheduler.submit(request, may_run=True)
        version.batcher._expiry.drop_displaced()
        if run is None:
            if request.cancelled:
                version.batcher.drop(request)
            return
        self.seen["on arrival"] += 1
        self._is_on_arrival = True
        version.check_taken(run)
        run.instance._session.is_running = True
        self.world.after(self.draw_run_ns(run.rows), partial(self._run_here, version, run))

    def _run_here(self, version: Version, run: Run) -> None:
        run.instance._session.is_running = False
        version.workers.execute(run)
        self._is_on_arrival = False
        version.check()

    def _request(self, version: Version) -> SimulatedRequest:
        draw, self._number = self.world.random, self._number + 1
        request = SimulatedRequest(self, self._number, draw.choice([1, 1, 1, 2, 4]), LAYOUTS[draw.random() < 0.1])
        request.version, request.state = version, "accepted"
        # Until it is refused: it may be answered before `submit` returns.
        version.unanswered += 1
        self.seen["accepted"] += 1
        chance = draw.random()
        if chance < 0.5:
            request.deadline_ns = self.world.now_ns + draw.choice([-1, 200 * US, 2 * MS, 50 * MS, 10 * S])
        if 0.4 < chance < 0.45:
            request.timeout_ns = draw.choice([MS, S])
        request.priority = draw.choice([0, 0, 1, 2])
        # One of them sends most.
        request.sender = draw.choice(["greedy", "greedy", "greedy", "polite", None])
        if chance > 0.95:
            request.cancel()
        elif chance > 0.9:
            self.world.after(draw.randrange(5 * MS), partial(self._leave, request))
        return request

    def _leave(self, request: SimulatedRequest) -> None:
        request.cancel()
        assert request.version is not None
        waiting = request.version.scheduler._queue.waiting()
        require(all(each is not request for each in waiting), "one whose caller leaves does not wait")

    def answered(self, request: SimulatedRequest, answer: Answer | RequestError) -> None:
        version, draw = request.version, self.world.random
        assert version is not None
        require(not version.has_drained, "nothing is answered after a drain")
        version.unanswered -= 1
        self.seen["answered"] += 1
        self.seen[f"answer: {type(answer).__name__}"] += 1
        if isinstance(answer, Answer):
            found = answer.outputs["y"]
            # One that runs alone gets all outputs, whatever they are.
            rows = len(found) if answer.batch.is_alone else request.rows
            require(np.array_equal(found, request.buffers[0][:rows] * 2), "an answer holds the request's own rows")
        elif isinstance(answer, DeadlineExceeded) and not request.timeout_ns and request.deadline_ns is not None:
            late_ns = self.world.now_ns - max(request.deadline_ns, self._jumped_ns, request.arrived_ns)
            require(late_ns < LATE_NS, "an expired one is answered at its deadline")
        if version.policy.preserve_ordering and request.ticket >= 0:
            require(request.ticket >= version.last_ticket, "answers leave in the order of their requests")
            version.last_ticket = request.ticket
        if self.has_faults:
            self._react(draw.random())

    def _react(self, chance: float) -> None:
        """A caller does what callers do when they are answered."""
        if chance < 0.02 and self._left > 0 and self._depth < 3:
            self._depth += 1
            self._send(self.version, 1)
            self._depth -= 1
        elif chance > 0.999:
            raise SystemExit
        elif chance > 0.99:
            raise ConnectionError("a caller that has gone")
        elif chance > 0.98:
            # Not long: it must not block.
            self.take_time(20 * US)

    def take_time(self, duration_ns: int) -> None:
        """Has others go on while this thread does something: a session is checked, a caller takes its answer."""
        if self._depth < 3:
            self._depth += 1
            self.world.pass_time(duration_ns)
            self._depth -= 1

    # What happens besides.

    def _happen(self) -> None:
        chance, version = self.world.random.random(), self.version
        # A swap while a run is on the arriving thread is what few tests of threads would meet.
        if chance < (0.1 if self._is_on_arrival else 0.01) or version.batcher.broken:
            self._is_on_arrival = False
            self.version = Version(self)
            version.drain()
            self.seen["swap"] += 1
        elif chance < 0.014:
            for instance in version.batcher._instances:
                instance._session.is_broken = True
            self.seen["break"] += 1
        elif chance < 0.018:
            self.world.now_ns += self.world.random.choice([MS, S, 3600 * S])
            self._jumped_ns = self.world.now_ns
            self.seen["clock jump"] += 1

    def draw_fault(self) -> str:
        # Runs end when they begin, but for this.
        self.world.now_ns += self.world.random.choice(COMPUTE_NS)
        if not self.has_faults:
            return ""
        chance = self.world.random.random() / self._badness
        fault = "raises" if chance < 0.02 else "dies" if chance < 0.025 else "mismatch" if chance < 0.0255 else ""
        if fault:
            self.seen[f"session {fault}"] += 1
        return fault

    def draw_run_ns(self, rows: int) -> int:
        """Returns how long a run takes: about what it should, or far longer."""
        chance = self.world.random.random()
        if chance < 0.002 and self.has_faults:
            self.seen["session hangs"] += 1
            return self.world.random.choice([50 * MS, S, 100 * S])
        return int((80 + 20 * rows) * US * (0.8 + chance))

    # Observer and log.

    def log_failure(self, error: BaseException) -> str:
        require(not isinstance(error, AssertionError | Parked | KeyError | TypeError | AttributeError), repr(error))
        return "id"

    def on_batch(self, record: Any) -> None:
        self._fail_sometimes()

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        self._fail_sometimes()

    def on_worker_restarted(self) -> None:
        self._fail_sometimes()

    def on_session_rebuilt(self) -> None:
        self.seen["session rebuilt"] += 1

    def _fail_sometimes(self) -> None:
        if self.has_faults and self.world.random.random() < 0.001:
            raise self.world.random.choice([RuntimeError, SystemExit])


def draw_policy(draw: random.Random) -> BatchingPolicy:
    queue = partial(
        QueuePolicy,
        default_timeout_s=draw.choice([0.0, 0.0, 0.0, 0.02]),
        timeout_action=draw.choice(["reject", "delay"]),
        allow_timeout_override=draw.random() < 0.5,
    )
    most = draw.choice([8, 16])
    return BatchingPolicy(
        most,
        draw.random() < 0.9,
        queue(draw.choice([16, 200, 1000, 1000])),
        max_queue_delay_s=draw.choice([0.0, 0.0, 0.001]),
        preferred_batch_sizes=draw.choice([(), (), (4, 8)]),
        priority_levels=draw.choice([1, 1, 2]),
        levels=draw.choice([{}, {1: queue(8)}]),
        preserve_ordering=draw.random() < 0.3,
        buckets=draw.choice([(), (4, most)]),
        limit_batches=draw.random() < 0.5,
        shed_delay_s=draw.choice([0.0, 0.02]),
        target_p99_s=draw.choice([0.0, 0.0, 0.005]),
    )


def simulate(seed: int, requests: int) -> Counter[str]:
    """Simulates so many requests; returns how often each thing happened.

    Raises:
        AssertionError: a promise was broken; the message has the seed.
    """
    try:
        return Engine(seed, requests).run()
    except BaseException as error:
        raise AssertionError(f"seed {seed}, {requests} requests: {error!r}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="None: another one each time, which is printed")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    start_s, start_cpu_s = time.monotonic(), time.process_time()
    seen = simulate(seed, arguments.requests)
    took_s, cpu_s = time.monotonic() - start_s, time.process_time() - start_cpu_s
    print(f"seed {seed}: {arguments.requests} requests in {took_s:.1f} s, {cpu_s:.1f} s of CPU time")
    for what, times in sorted(seen.items()):
        print(f"{times:10,} {what}")


if __name__ == "__main__":
    main()
