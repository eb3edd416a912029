"""grpc.health.v1: Check and Watch."""

import threading
from collections.abc import Callable, Mapping

from grpc_health.v1 import health_pb2

from ..errors import InvalidRequest, NotFound, TooManyStreams
from .call import Call, Handler
from .codec import parse_message
from .open_inference import SERVICE
from .status import status_of
from .streaming import HandOver, Metadata, OpenStream

HEALTH_SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
CHECK, WATCH = f"/{HEALTH_SERVICE}/Check", f"/{HEALTH_SERVICE}/Watch"
MAX_WATCHES = 512
"""Watches open at once. Fewer than the streams that one connection may have, or a proxy's watches would hold up its
calls."""

_SERVER = ""
_STATUS = health_pb2.HealthCheckResponse


class HealthWatch(OpenStream):
    """One Watch call: a service's status now and on each change, until the caller leaves or the watches end.

    A slow reader gets the latest status, not every one before it.
    """

    def __init__(self, health: "Health", on_change: Callable[[], None]) -> None:
        self._health = health
        self._service: str | None = None
        self._sent: int | None = None
        self._is_last = False
        self._is_closed = False
        self.on_change = on_change

    @property
    def has_room(self) -> bool:
        return True

    @property
    def has_answer(self) -> bool:
        return self._service is not None and not self._is_closed and self._health.status(self._service) != self._sent

    @property
    def is_over(self) -> bool:
        # An ending watch first sends the requested status.
        return self._is_closed or (self._is_last and self._sent is not None and not self.has_answer)

    def take(self, message: bytes) -> None:
        if self._service is not None:
            # The method accepts one message.
            return
        try:
            self._service = parse_message(health_pb2.HealthCheckRequest, message).service
        except InvalidRequest as error:
            self.status = status_of(error)
            self._is_closed = True
        self.on_change()

    def finish(self) -> None:
        if self._service is None:
            self._is_closed = True
            self.on_change()

    def next_answer(self) -> bytes | None:
        if not self.has_answer:
            return None
        self._sent = self._health.status(self._service or _SERVER)
        return _STATUS(status=self._sent).SerializeToString()

    def written(self) -> None:
        pass

    def end(self) -> None:
        """Ends it after its last status."""
        self._is_last = True
        self.on_change()

    def close(self) -> None:
        self._is_closed = True
        self.on_change()
        self._health.forget(self)


class Health:
    """The serving status of the server, the inference service and every model. Thread-safe.

    Args:
        max_watches: maximum open watches; more are refused with RESOURCE_EXHAUSTED.
    """

    def __init__(self, max_watches: int = MAX_WATCHES) -> None:
        self._max_watches = max_watches
        self._lock = threading.Lock()
        self._statuses: dict[str, int] = dict.fromkeys((_SERVER, SERVICE), _STATUS.NOT_SERVING)
        self._watches: set[HealthWatch] = set()
        self._is_final = False
        self._has_ended = False

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers of the unary methods, by full name."""
        return {CHECK: self._check}

    def report(self, models: Mapping[str, bool], *, server: bool) -> None:
        """Sets whether each model, and the server, serves."""
        self._set({**models, _SERVER: server, SERVICE: server})

    def report_model(self, model: str, *, serving: bool) -> None:
        """Sets whether a model serves."""
        self._set({model: serving})

    def not_serving(self) -> None:
        """Sets everything to not serving, permanently."""
        with self._lock:
            self._is_final = True
            self._statuses = dict.fromkeys(self._statuses, _STATUS.NOT_SERVING)
            watches = list(self._watches)
        _wake(watches)

    def end_watches(self) -> None:
        """Ends all open and future watches; an open one would delay a stop by the whole grace period."""
        with self._lock:
            self._has_ended = True
            watches = list(self._watches)
        for watch in watches:
            watch.end()

    def status(self, service: str) -> int:
        """Returns a service's status for watchers."""
        return self._statuses.get(service, _STATUS.SERVICE_UNKNOWN)

    def _set(self, serving: Mapping[str, bool]) -> None:
        with self._lock:
            if self._is_final:
                return
            self._statuses |= {
                service: _STATUS.SERVING if serves else _STATUS.NOT_SERVING for service, serves in serving.items()
            }
            watches = list(self._watches)
        _wake(watches)

    def _check(self, message: bytes, call: Call) -> None:
        service = parse_message(health_pb2.HealthCheckRequest, message).service
        status = self._statuses.get(service)
        if status is None:
            raise NotFound(f'there is no service or model "{service}"; "" asks for the server')
        call.reply(_STATUS(status=status).SerializeToString())

    def open(
        self,
        deadline_s: float | None,
        metadata: Metadata = (),
        *,
        on_change: Callable[[], None] = lambda: None,
        hand_over: HandOver | None = None,
    ) -> HealthWatch:
        """Opens a watch; see `StreamedMethod`.

        Raises:
            TooManyStreams: the maximum is open.
        """
        watch = HealthWatch(self, on_change)
        with self._lock:
            if len(self._watches) >= self._max_watches:
                raise TooManyStreams(
                    f"{self._max_watches} health watches are open and no more are accepted; close one, or call Check"
                )
            self._watches.add(watch)
            has_ended = self._has_ended
        if has_ended:
            watch.end()
        return watch

    def forget(self, watch: HealthWatch) -> None:
        """Makes room for another watch."""
        with self._lock:
            self._watches.discard(watch)


def _wake(watches: list[HealthWatch]) -> None:
    for watch in watches:
        watch.on_change()
