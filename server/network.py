"""All transports and the order of a drain, which answers and sends every accepted call."""

import time
from collections.abc import Callable
from typing import Any

from .api.admission import Admission
from .api.dispatch import Dispatcher
from .api.health import Health
from .api.stream import InferStreams
from .deadline import Deadline
from .failures import FailureLog
from .transport import HttpPort, Services, Transport

# Before connections get GOAWAY, calls are held until none has come for this long, but not longer than this.
_HOLD_QUIET_S = 0.05
_HOLD_S = 0.2
# Time for the network threads to send GOAWAY before answers.
_NEWS_S = 0.02
# The same when connections are only replaced: some clients wait no longer for an answer.
_SHORT_QUIET_S = 0.005
_SHORT_HOLD_S = 0.02
_SHORT_NEWS_S = 0.005
# How long the server accepts calls after GOAWAY.
_STAY_S = 0.2
# If a stopping server has refused no call for this long, its clients have probably left; it waits at most this long.
_QUIET_S = 0.1
_LINGER_S = 5.0
# Between the end of the grace and of the transports: time to send the refusals of unfinished calls.
_REFUSALS_S = 0.5


class Network:
    """The transports, and the calls on them.

    Args:
        transport: the gRPC transport.
        http: the HTTP transport; None: HTTP is off.
        dispatcher: handles calls.
        admission: counts them.
        streams: the open ModelStreamInfer calls.
        health: the health service.
        log_failure: logs unexpected errors.
        hold: maximum calls held while connections get GOAWAY.
    """

    def __init__(
        self,
        transport: Transport,
        http: HttpPort | None,
        dispatcher: Dispatcher,
        admission: Admission,
        streams: InferStreams,
        health: Health,
        log_failure: FailureLog,
        *,
        hold: int,
    ) -> None:
        self._transport = transport
        self._http = http
        self._dispatcher = dispatcher
        self._admission = admission
        self._streams = streams
        self._health = health
        self._log_failure = log_failure
        self._hold = hold
        self._is_started = False
        self.unfinished: int | None = None
        """Number of accepted calls unanswered, or with unsent answers, at the end; None before."""

    def start(self, services: Services, make_rest: Callable[[], Any]) -> None:
        """Starts to accept calls; `make_rest` makes the HTTP API."""
        self._is_started = True
        self._transport.start(services)
        if self._http:
            self._http.start(make_rest())

    def replace_connections(self, wait: Callable[[], object]) -> None:
        """Makes all clients reconnect without losing calls; they may then reach another server.

        Args:
            wait: called while HTTP/1.1 clients close their connections; connections idle after it are closed.

        Raises:
            Exception: a port failed to; its connections stay.
        """
        if self._http:
            self._http.ask_to_close(only_old=True)
            wait()
        held = self._dispatcher.hold(self._hold)
        try:
            held.wait_until_quiet(_SHORT_QUIET_S, _SHORT_HOLD_S)
            if self._http:
                self._http.retire_old()
            self._transport.replace_connections()
            time.sleep(_SHORT_NEWS_S)
        finally:
            self._dispatcher.release(held)

    def ask_to_close(self) -> None:
        """Makes HTTP/1.1 answers close their connections, so fewer are idle when they are closed."""
        if self._http:
            self._http.ask_to_close(only_old=False)

    def stop(self, answers_by: Deadline) -> None:
        """Drains: accepted calls have until `answers_by` to be answered and sent."""
        unsent_by = Deadline(answers_by.at_s + _REFUSALS_S)
        left = 0
        if self._is_started:
            # To a client without retries a refusal is a failure, but GOAWAY is invisible.
            self._tell_to_go(unsent_by)
            # Refuse new calls and finish the accepted ones, which need decoders and batchers.
            left = self._admission.drain(answers_by.left_s())
            # Their requests are answered; idle streams would stay open as long as their clients like.
            self._streams.end(answers_by.left_s())
            # A transport that stops cuts off arriving calls; until then, the server can answer UNAVAILABLE.
            self._admission.linger(_QUIET_S, answers_by.left_s(_LINGER_S))
            # Watchers have received NOT_SERVING; their open calls would make the transport wait.
            self._health.end_watches()
        # Last, and until the answers are sent: a client may read slowly.
        unsent = self._transport.stop(unsent_by)
        if self._http:
            unsent += self._http.stop(unsent_by)
        self.unfinished = left + unsent

    def _tell_to_go(self, deadline: Deadline) -> None:
        """Sends GOAWAY on every connection before any refusal, so clients without retries lose no call.

        Such a client loses a call that crosses GOAWAY. So calls are held for a moment: a client that waits for answers
        before it sends more then has nothing on its way, and receives GOAWAY before the answers.
        """
        # Without answered calls, there are no clients to wait for.
        hold_s = _HOLD_S if self._admission.replies else 0
        held = self._dispatcher.hold(self._hold)
        kept = held.wait_until_quiet(_HOLD_QUIET_S, deadline.left_s(hold_s))
        try:
            self._transport.retire(deadline)
            if self._http:
                self._http.retire()
        except Exception as error:  # noqa: BLE001  it must not prevent the stop
            self._log_failure(error)
        time.sleep(_NEWS_S)
        self._dispatcher.release(held)
        if kept:
            # Their clients reconnect, to this server unless a load balancer sends them elsewhere.
            time.sleep(deadline.left_s(_STAY_S))
