"""The cost of version swaps: latency under load, and memory after many swaps."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from . import ours
from .bodies import MODEL, Oracle, mnist_images
from .figures import OURS, Figure, Round
from .load import percentile
from .process import Server
from .repositories import MAX_BATCH_SIZE, Swapper, repository
from .setup import Setup
from .stream import StreamLoad, Times

# Pause between swaps, so the second before each is unaffected by another.
PAUSE_S = 2.0
# Loading measures batch sizes, which takes most of its time.
SMALL_BATCH = 8
LOOKS = 10
Say = Callable[[str], None]
"""Receives the name of the next measurement."""


@contextmanager
def _swapped_server(setup: Setup, max_batch_size: int = MAX_BATCH_SIZE) -> Iterator[tuple[Server, Swapper]]:
    options = ["--model-control-mode", "explicit", "--load-models", MODEL]
    with (
        repository(max_batch_size=max_batch_size) as place,
        ours.serve(OURS, setup.cores, setup.transport, repository=place, options=options) as server,
        Swapper(server.address, place) as swapper,
    ):
        yield server, swapper


def under_load(setup: Setup, figure: Figure, count: int, say: Say) -> list[Round]:
    """Swaps a version `count` times under load; returns the latencies during and before each swap.

    Raises:
        LoadError: a request was lost: its answer was an error, wrong or missing.
        ServerError: the server refused a swap.
    """
    say(f"{count} swaps under load")
    enough = threading.Event()
    with _swapped_server(setup) as (server, swapper), ThreadPoolExecutor(1) as pool:
        load = StreamLoad(server.port, mnist_images(), Oracle(), figure.ours.in_flight)
        swapping = pool.submit(_swap_often, swapper, count, enough)
        try:
            times = load.times(lambda: not swapping.done())
        finally:
            enough.set()
        return [around(figure, times, *swap) for swap in swapping.result()]


def _swap_often(swapper: Swapper, count: int, enough: threading.Event) -> list[tuple[float, float]]:
    """Swaps up to `count` times or until `enough`, with a pause before each and after the last."""
    done: list[tuple[float, float]] = []
    while not enough.wait(PAUSE_S) and len(done) < count:
        done.append(swapper.swap())
    return done


def around(figure: Figure, times: Times, asked_s: float, done_s: float) -> Round:
    """Returns p99 of the requests sent in the second before the start of a swap, and in the second after.

    Loading, most of a swap's work, starts immediately. A swap longer than a second is measured until its end.

    Args:
        figure: the compared figure.
        times: send and answer times of the requests.
        asked_s: start of the swap.
        done_s: end of the swap.

    Raises:
        LoadError: no request was sent in one of the intervals.
    """

    def p99_us(begin_s: float, end_s: float) -> float:
        chosen = times[(times[:, 0] >= begin_s) & (times[:, 0] < end_s)]
        return percentile(((chosen[:, 1] - chosen[:, 0]) * 1e6).tolist(), 99)

    return {
        figure.ours: {"p99_us": p99_us(asked_s, max(asked_s + 1, done_s))},
        figure.against: {"p99_us": p99_us(asked_s - 1, asked_s)},
    }


def memory(setup: Setup, figure: Figure, say: Say) -> list[Round]:
    """Swaps a version repeatedly, with one request each; returns resident memory early and at the end.

    The allocator's memory varies by a few percent between swaps, so each value is taken over several.

    Raises:
        ServerError: the server refused a swap, or kept the old version.
    """
    looks: list[float] = []
    with _swapped_server(setup, SMALL_BATCH) as (server, swapper):
        for number in range(figure.ours.swaps):
            if number % 10 == 0:
                say(f"memory: {number:,} of {figure.ours.swaps:,} swaps")
            swapper.swap()
            looks.append(server.resident_kib() / 1024)
    late, early = (looks[each.swaps - LOOKS : each.swaps] for each in (figure.ours, figure.against))
    return [
        {figure.ours: {"resident_mib": after}, figure.against: {"resident_mib": before}}
        for after, before in zip(late, early, strict=True)
    ]
