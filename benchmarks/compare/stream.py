"""Load by a generator of our own, where every request may have an id and pixels of its own.

h2load sends one body. Here the frames of many requests are made at once by numpy, sent as bytes, and the answers
counted by their frame heads, so that Python does little per request. Every answer's grpc-status is checked, and one
in SAMPLE_EVERY also for its id and values, after the measurement.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from pixelserve.oip import inference_pb2 as pb

from . import frames
from .bodies import Images, Oracle
from .connection import SAMPLE_EVERY, Connection
from .errors import LoadError
from .infer_stream import InferStreamConnection

Times = npt.NDArray[np.float64]
"""One row a request: when it was sent and when it was answered, in seconds of `time.perf_counter()`: [N, 2]."""


class StreamLoad:
    """Measures one server; each run has a connection of its own. One thread."""

    def __init__(self, port: int, images: Images, oracle: Oracle, in_flight: int) -> None:
        """Stores what it is given; `images` [N, 28, 28, 1] are sent in turn."""
        self._port, self._images, self._oracle, self._in_flight = port, images, oracle, in_flight
        self._next_number = 1

    def requests_per_s(self, *, distinct: bool, seconds: float, warm_up_s: float, on_one_call: bool = False) -> float:
        """Returns answers a second.

        Args:
            distinct: whether every request has an id and pixels that no other had.
            seconds: how long it counts.
            warm_up_s: how long it sends before.
            on_one_call: whether all are sent on one ModelStreamInfer call, with one body, instead of a call each.

        Raises:
            LoadError: an answer was an error, or wrong, or there was none in that time.
        """
        marks: list[tuple[float, int]] = []
        start_s = time.perf_counter()

        def wants_more(answered: int) -> bool:
            now_s = time.perf_counter()
            if not marks and now_s - start_s >= warm_up_s:
                marks.append((now_s, answered))
            if marks and now_s - marks[0][0] >= seconds:
                marks.append((now_s, answered))
                return False
            return True

        if on_one_call:
            with InferStreamConnection(self._port, self._images) as connection:
                connection.run(self._in_flight, wants_more, None)
            self._check_samples(connection.samples, lambda _: 0)
        else:
            self._run(wants_more, distinct=distinct)
        (begin_s, before), (end_s, after) = marks[0], marks[-1]
        if after == before:
            raise LoadError("no request was answered in the time of the measurement")
        return (after - before) / (end_s - begin_s)

    def send(self, requests: int, progress: Callable[[int], None]) -> None:
        """Sends so many distinct requests; tells `progress` how many are answered, now and then.

        Raises:
            LoadError: an answer was an error, or wrong.
        """
        told = 0

        def wants_more(answered: int) -> bool:
            nonlocal told
            if answered - told >= SAMPLE_EVERY:
                progress(answered)
                told = answered
            return answered < requests

        self._run(wants_more, distinct=True, limit=requests)

    def times(self, wants_more: Callable[[], bool]) -> Times:
        """Sends distinct requests as long as more are wanted; returns the times of all of them.

        Raises:
            LoadError: an answer was an error, or wrong, or there was none.
        """
        connection = self._run(lambda _: wants_more(), distinct=True, timed=True)
        answered_s = [connection.answered_s[order] for order in range(connection.sent)]
        return np.array([connection.sent_s, answered_s]).T

    def _run(
        self, wants_more: Callable[[int], bool], *, distinct: bool, limit: int | None = None, timed: bool = False
    ) -> Connection:
        first = self._next_number if distinct else 0
        with Connection(self._port, self._images, first, distinct=distinct, timed=timed) as connection:
            connection.run(self._in_flight, wants_more, limit)
        if distinct:
            self._next_number += connection.sent
        self._check_samples(connection.samples, lambda order: first + order if distinct else first)
        return connection

    def _check_samples(self, samples: Mapping[int, bytes], number_of: Callable[[int], int]) -> None:
        """Raises LoadError where an answer is wrong; `number_of` gives a request's number by its order."""
        for order, message in samples.items():
            number = number_of(order)
            image = frames.stamp(self._images, number)
            if not self._oracle.is_right(pb.ModelInferResponse.FromString(message), image, frames.identity(number)):
                raise LoadError(f"the answer to request {number} of our own generator is wrong")
