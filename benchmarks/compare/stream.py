"""Load by our own generator, with optional distinct ids and pixels per request.

h2load sends one body. Here, NumPy prepares the frames of many requests at once, and answers are counted by their frame
headers, so Python does little per request. Every answer's grpc-status is checked, and for one in SAMPLE_EVERY, also the
id and values, after the measurement.
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
"""Send and answer times per request, in seconds of `time.perf_counter()`: [N, 2]."""


class StreamLoad:
    """Measures one server; each run has its own connection. Not thread-safe."""

    def __init__(self, port: int, images: Images, oracle: Oracle, in_flight: int) -> None:
        """`images` [N, 28, 28, 1] are sent in turn."""
        self._port, self._images, self._oracle, self._in_flight = port, images, oracle, in_flight
        self._next_number = 1

    def requests_per_s(self, *, distinct: bool, seconds: float, warm_up_s: float, on_one_call: bool = False) -> float:
        """Returns answers per second.

        Args:
            distinct: whether every request has a distinct id and pixels.
            seconds: duration of the measurement.
            warm_up_s: seconds of load beforehand.
            on_one_call: whether to send all on one ModelStreamInfer call, with one body, instead of separate calls.

        Raises:
            LoadError: an answer was an error or wrong, or none arrived in time.
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
            raise LoadError("no request was answered during the measurement")
        return (after - before) / (end_s - begin_s)

    def send(self, requests: int, progress: Callable[[int], None]) -> None:
        """Sends `requests` distinct requests; calls `progress` periodically with the number answered.

        Raises:
            LoadError: an answer was an error or wrong.
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
        """Sends distinct requests while `wants_more` returns True; returns their times.

        Raises:
            LoadError: an answer was an error, wrong or missing.
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
        """Raises LoadError if an answer is wrong; `number_of` maps a request's index to its number."""
        for order, message in samples.items():
            number = number_of(order)
            image = frames.stamp(self._images, number)
            if not self._oracle.is_right(pb.ModelInferResponse.FromString(message), image, frames.identity(number)):
                raise LoadError(f"the answer to request {number} of our own generator is wrong")
