"""The thread that replaces connections: repeatedly, despite failures, and only while the server runs."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pixelserve_server.supervised import Supervisor
from pixelserve_server.transport.age import ConnectionAge

PATIENCE_S = 20
Replace = Callable[[Callable[[], object]], object]


@contextmanager
def replacing(
    age_s: float, replace: Callable[[Callable[[], object]], object]
) -> Iterator["queue.Queue[BaseException]"]:
    failures: queue.Queue[BaseException] = queue.Queue()

    def log(error: BaseException) -> str:
        failures.put(error)
        return ""

    age = ConnectionAge(age_s, replace, log, Supervisor(log))  # type: ignore[arg-type]
    age.start()
    with closing(age):
        yield failures


def test_connections_are_replaced_again_and_again() -> None:
    times = threading.Semaphore(0)
    with replacing(0.01, lambda _: times.release()):
        for _ in range(3):
            assert times.acquire(timeout=PATIENCE_S)


def test_a_replacement_that_fails_is_logged_and_the_next_is_tried() -> None:
    error = OSError("no descriptors are left")

    def fail(_: Callable[[], object]) -> None:
        raise error

    with replacing(0.01, fail) as failures:
        assert [failures.get(timeout=PATIENCE_S) for _ in range(2)] == [error, error]


def test_a_replacement_that_has_begun_is_done_before_the_server_ends() -> None:
    """Or connections would be told to go on ports that end."""
    has_begun, is_done = threading.Event(), threading.Event()

    def replace(wait: Callable[[], object]) -> None:
        has_begun.set()
        wait()
        is_done.set()

    with replacing(0.02, replace):
        assert has_begun.wait(PATIENCE_S)
    assert is_done.is_set()
