"""From a method's name to its handler, and from whatever goes wrong to an answer."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter

from ..access.authorizer import Authorizer, Metadata
from ..errors import InternalError, RequestError
from ..failures import FailureLog
from .accounting import Accounting
from .admission import Admission, FailureCounts
from .call import Arrival, Call, GroupHandler, Handler
from .held import Held
from .status import Status, status_of
from .watch import CallWatch


class Guard:
    """Runs work for a call and answers the call with whatever the work raises. May be called from any thread."""

    def __init__(self, log_failure: FailureLog) -> None:
        """Stores what it is handed.

        Args:
            log_failure: logs an unexpected exception, and returns the id under which it did.
        """
        self._log_failure = log_failure

    def __call__(self, call: Call, work: Callable[[], None]) -> None:
        """Runs `work`, which answers the call now or later; raises nothing."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
            self.fail(call, error)

    def fail(self, call: Call, error: Exception) -> None:
        """Answers a call with what went wrong; an error that nobody expected is logged, and told by an id only."""
        if not isinstance(error, RequestError):
            request_id = self._log_failure(error)
            error = InternalError(f"internal error; the server's log has the details under {request_id}")
        call.fail(status_of(error))


class Dispatcher:
    """Routes the calls of every transport. Every method may be called from any thread, and raises nothing."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        admission: Admission,
        guard: Guard,
        failure_counts: FailureCounts | None = None,
        watch: CallWatch | None = None,
        authorizer: Authorizer | None = None,
        *,
        probes: Mapping[str, Handler] | None = None,
        triton_status_codes: bool = False,
    ) -> None:
        """Stores what it is handed.

        Args:
            handlers: handler by full method name, such as `/inference.GRPCInferenceService/ModelInfer`.
            admission: decides which calls are taken, and counts them.
            guard: answers calls that fail.
            failure_counts: counts them.
            watch: reports calls to the access log and the traces; None: neither is on.
            authorizer: checks tokens; None: everyone may call everything.
            probes: handlers of methods that are answered whatever else is going on, such as health's Check.
            triton_status_codes: whether calls fail with Triton's status codes where ours differ.
        """
        self._handlers = handlers
        self._group_handlers: dict[str, GroupHandler] = {}
        for method, handler in handlers.items():
            if isinstance(handler, GroupHandler):
                self._group_handlers[method] = handler
        self._admission = admission
        self._guard = guard
        self._watch = watch
        self._authorizer = authorizer
        self._probes = probes or {}
        self._listener = Accounting(admission, failure_counts, watch, triton_status_codes=triton_status_codes)
        self._refusals = Accounting(admission, failure_counts, watch)

    @property
    def methods(self) -> tuple[str, ...]:
        """Full names of the methods that there are handlers for."""
        return (*self._handlers, *self._probes)

    def serves(self, method: str) -> bool:
        """Returns whether there is a handler for a full method name."""
        return method in self._handlers or method in self._probes

    def handle(self, method: str, message: bytes, call: Call) -> None:
        """Handles one call; it is answered now or later."""
        try:
            handler = self._begin(method, message, call, time.monotonic_ns())
            if handler is None:
                self._probes[method](message, call)
            else:
                self._admission.admit(call, len(message))
                handler(message, call)
        except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
            self._guard.fail(call, error)

    def check_caller(self, method: str, metadata: Metadata) -> None:
        """Checks the caller's token before a transport reads a large request.

        Without this, the memory for requests that are not whole could be filled without a token.

        Raises:
            Unauthenticated: it brings no token, or not one of this server's; to be answered by `refuse`.
        """
        if self._authorizer is not None:
            self._authorizer.check_caller(method, metadata)

    def handle_all(self, arrivals: Sequence[Arrival]) -> None:
        """Handles calls that arrived together, in their order, each as `handle` would.

        What each of them costs by itself, such as locks and readings of the clock, is paid once for all. Only one that
        comes alone is computed on this thread.
        """
        if len(arrivals) == 1:
            self.handle(*arrivals[0])
            return
        now_ns = time.monotonic_ns()
        begun: list[Arrival] = []
        for arrival in arrivals:
            method, message, call = arrival
            try:
                if self._begin(method, message, call, now_ns) is None:
                    self._probes[method](message, call)
                else:
                    begun.append(arrival)
            except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
                self._guard.fail(call, error)
        refused = self._admission.admit_all(begun)
        if refused:
            for call, reason in refused:
                self._guard.fail(call, reason)
            gone = {call for call, _ in refused}
            begun = [arrival for arrival in begun if arrival[2] not in gone]
        self._hand_over(begun)

    def _hand_over(self, arrivals: Sequence[Arrival]) -> None:
        """Gives calls that were taken to their handlers: those of one method that are side by side together."""
        for method, group in groupby(arrivals, itemgetter(0)):
            group_handler = self._group_handlers.get(method)
            if group_handler is not None:
                group_handler.handle_all(list(group), self._guard.fail)
                continue
            for _, message, call in group:
                try:
                    self._handlers[method](message, call)
                except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
                    self._guard.fail(call, error)

    def _begin(self, method: str, message: bytes, call: Call, now_ns: int) -> Handler | None:
        """Takes note of a call and returns its handler, which its token allows; None: it may be a probe."""
        record = None if self._watch is None else self._watch.record(method, call, now_ns)
        call.begin(method, self._listener, now_ns, record)
        handler = self._handlers.get(method)
        if handler is not None and self._authorizer is not None:
            principal = self._authorizer.authorize(method, message, call.metadata())
            if principal is not None:
                call.belongs_to(principal)
        return handler

    def fail(self, method: str, call: Call, error: Exception) -> None:
        """Answers a call that its transport could not hand over, as one whose handler raised `error`."""
        call.begin(method, self._listener, time.monotonic_ns(), None)
        self._guard.fail(call, error)

    def hold(self, most: int) -> Held:
        """Keeps the calls that come from now on, `most` of them, until `release`; probes are answered meanwhile."""
        held = Held(partial(Dispatcher.handle, self), self._handlers, most)
        # Replaces the methods, so holding costs nothing while it is off.
        self.handle, self.handle_all = held.take, held.take_all  # type: ignore[method-assign]  # see above
        return held

    def release(self, held: Held) -> None:
        """Handles the calls that were kept, and those to come."""
        del self.handle, self.handle_all
        held.release()

    def refuse(self, method: str, call: Call, status: Status) -> None:
        """Answers a call that its transport does not want handled, with just this status.

        Not with Triton's: what is refused here, such as a message that is too large, will not go better another time.
        """
        now_ns = time.monotonic_ns()
        record = None if self._watch is None else self._watch.record(method, call, now_ns)
        call.begin(method, self._refusals, now_ns, record)
        call.fail(status)
