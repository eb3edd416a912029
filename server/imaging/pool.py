"""The threads that decode pictures: few, with a bounded queue, and never those that dispatch calls or run batches."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..errors import QueueFull


class DecodePool:
    """Runs decoding work. `submit` may be called from any thread."""

    def __init__(self, threads: int, max_waiting: int) -> None:
        """Starts no thread before there is work.

        Args:
            threads: how many requests are decoded at once.
            max_waiting: how many more may wait.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._places = threading.Semaphore(threads + max_waiting)

    def submit(self, work: Callable[[], None]) -> None:
        """Runs `work`, which must not raise, on a thread of the pool.

        Raises:
            QueueFull: as much work waits as may.
        """
        if not self._places.acquire(blocking=False):
            raise QueueFull("too many requests wait for their pictures to be decoded; retry later")
        try:
            self._pool.submit(work).add_done_callback(lambda _: self._places.release())
        except BaseException:
            self._places.release()
            raise

    def close(self) -> None:
        """Ends the threads once they are done."""
        self._pool.shutdown(wait=True)
