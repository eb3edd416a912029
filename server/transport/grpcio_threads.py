"""The threads that carry grpcio's calls, of which each sleeps for as long as its call lasts.

There are as many as calls, so that no call waits for another's thread: in a pool of 64, 64 calls without a message held
up all others, and a client with one call at a time waited 530 ms beside one with 512, instead of 4.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class CallThreads(ThreadPoolExecutor):
    """Starts a thread for a call if none is idle, and keeps it. Made for grpcio.

    grpcio calls `submit` on the thread that serves all calls, which would end with the first error.
    """

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Carries a call on an idle or new thread, or on the next idle one if the system refuses a new one."""
        try:
            return super().submit(work, *args, **kwargs)
        except RuntimeError:
            # The work is queued before a thread is started. What counts here is only that grpcio gets a future.
            queued: Future[Any] = Future()
            queued.set_result(None)
            return queued
