"""The calls' way in, and its end: what was accepted is answered and sent, and no caller loses what it need not lose."""

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

# Before connections are told to go, calls are kept until none has come for this long, and no longer than this.
_HOLD_QUIET_S = 0.05
_HOLD_S = 0.2
# What the network threads get to send that news before answers follow.
_NEWS_S = 0.02
# The same for connections that are only to be replaced: some clients wait for an answer no longer than that.
_SHORT_QUIET_S = 0.005
_SHORT_HOLD_S = 0.02
_SHORT_NEWS_S = 0.005
# How long a server that told its connections to go still takes calls.
_STAY_S = 0.2
# A stopping server that has refused nobody for this long has probably been left by its clients; it waits no longer
# than this.
_QUIET_S = 0.1
_LINGER_S = 5.0
# Between the end of the grace and that of the transports: for the refusals of what was not finished.
_REFUSALS_S = 0.5


class Network:
    """The transports, and the calls on them."""

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
        """Listens nowhere yet.

        Args:
            transport: carries gRPC.
            http: carries HTTP; None: it is switched off.
            dispatcher: handles calls.
            admission: counts them.
            streams: those of ModelStreamInfer.
            health: what is watched.
            log_failure: logs what should not happen.
            hold: most calls that are kept while connections are told to go.
        """
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
        """How many accepted calls were not answered, or their answers not sent, by the end; None: it has not come."""

    def start(self, services: Services, make_rest: Callable[[], Any]) -> None:
        """Takes calls from now on; `make_rest` makes what answers HTTP."""
        self._is_started = True
        self._transport.start(services)
        if self._http:
            self._http.start(make_rest())

    def replace_connections(self, wait: Callable[[], object]) -> None:
        """Has all clients reconnect, and loses no call of theirs; they may then find another server.

        Args:
            wait: called while HTTP/1.1 clients close their connections; those that are idle after it are closed.

        Raises:
            Exception: a port cannot; its connections stay.
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
        """Has HTTP/1.1 answers close their connections from now on, so fewer are idle when they are closed."""
        if self._http:
            self._http.ask_to_close(only_old=False)

    def stop(self, answers_by: Deadline) -> None:
        """Ends in the order that loses nothing; accepted calls get until `answers_by` to be answered and sent."""
        unsent_by = Deadline(answers_by.at_s + _REFUSALS_S)
        left = 0
        if self._is_started:
            # A client that retries nothing hears a refusal as a failure, and of being told to go hears nothing.
            self._tell_to_go(unsent_by)
            # Refuse new calls and finish the accepted ones, which needs decoders and batchers alive.
            left = self._admission.drain(answers_by.left_s())
            # Their answers are there; idle streams would last as long as their clients like.
            self._streams.end(answers_by.left_s())
            # Calls that come while a transport ends are broken off, where this server can still say UNAVAILABLE.
            self._admission.linger(_QUIET_S, answers_by.left_s(_LINGER_S))
            # They have been told NOT_SERVING; left open, their calls would last as long as the transport waits.
            self._health.end_watches()
        # Last, and until the answers are sent: an accepted call's reader may be slow.
        unsent = self._transport.stop(unsent_by)
        if self._http:
            unsent += self._http.stop(unsent_by)
        self.unfinished = left + unsent

    def _tell_to_go(self, deadline: Deadline) -> None:
        """Tells every connection to go before anything is refused: a client that retries nothing then loses no call.

        A call that crosses this news is lost to such a client. So calls are kept for a moment: clients that wait for
        their answers before they send more have nothing on its way then, and get the news before the answers.
        """
        # Without an answered call, there are no clients to wait for.
        hold_s = _HOLD_S if self._admission.replies else 0
        held = self._dispatcher.hold(self._hold)
        kept = held.wait_until_quiet(_HOLD_QUIET_S, deadline.left_s(hold_s))
        try:
            self._transport.retire(deadline)
            if self._http:
                self._http.retire()
        except Exception as error:  # noqa: BLE001  it must not keep a server from ending
            self._log_failure(error)
        time.sleep(_NEWS_S)
        self._dispatcher.release(held)
        if kept:
            # Their clients connect again, and are served here unless a balancer sends them elsewhere.
            time.sleep(deadline.left_s(_STAY_S))
