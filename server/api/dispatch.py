"""Routes calls to handlers, and turns errors into answers."""

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
from .call_observer import CallObserver
from .held import HeldCalls
from .status import CallStatus, status_of


class CallGuard:
    """Runs work for a call and answers the call with any error. Thread-safe.

    Args:
        log_failure: logs an unexpected exception and returns its id in the log.
    """

    def __init__(self, log_failure: FailureLog) -> None:
        self._log_failure = log_failure

    def __call__(self, call: Call, work: Callable[[], None]) -> None:
        """Runs `work`, which answers the call now or later; never raises."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
            self.fail(call, error)

    def fail(self, call: Call, error: Exception) -> None:
        """Answers a call with an error; unexpected errors are logged and answered with an id only."""
        if not isinstance(error, RequestError):
            request_id = self._log_failure(error)
            error = InternalError(f"internal error; the server's log has the details under {request_id}")
        call.fail(status_of(error))


class Dispatcher:
    """Routes the calls of all transports. Thread-safe; never raises.

    Args:
        handlers: handler by full method name, such as `/inference.GRPCInferenceService/ModelInfer`.
        admission: admits and counts calls.
        guard: answers failed calls.
        failure_counts: counts failed calls.
        observer: reports calls to the access log and traces; None: both are off.
        authorizer: checks tokens; None: all calls are allowed.
        probes: handlers of methods that are always answered, such as health's Check.
        triton_status_codes: whether to use Triton's status codes where ours differ.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        admission: Admission,
        guard: CallGuard,
        failure_counts: FailureCounts | None = None,
        observer: CallObserver | None = None,
        authorizer: Authorizer | None = None,
        *,
        probes: Mapping[str, Handler] | None = None,
        triton_status_codes: bool = False,
    ) -> None:
        self._handlers = handlers
        self._group_handlers: dict[str, GroupHandler] = {}
        for method, handler in handlers.items():
            if isinstance(handler, GroupHandler):
                self._group_handlers[method] = handler
        self._admission = admission
        self._guard = guard
        self._observer = observer
        self._authorizer = authorizer
        self._probes = probes or {}
        self._listener = Accounting(admission, failure_counts, observer, triton_status_codes=triton_status_codes)
        self._refusals = Accounting(admission, failure_counts, observer)

    @property
    def methods(self) -> tuple[str, ...]:
        """Full names of the methods with handlers."""
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
        except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
            self._guard.fail(call, error)

    def check_caller(self, method: str, metadata: Metadata) -> None:
        """Checks the caller's token before a transport reads a large request.

        Otherwise the memory for incomplete requests could be filled without a token.

        Raises:
            Unauthenticated: there is no token, or not one of this server's; answer with `refuse`.
        """
        if self._authorizer is not None:
            self._authorizer.check_caller(method, metadata)

    def handle_all(self, arrivals: Sequence[Arrival]) -> None:
        """Handles calls that arrived together, in order, each like `handle`.

        Costs per call, such as locks and clock readings, are paid once for all. Only a lone call is computed on this
        thread.
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
            except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
                self._guard.fail(call, error)
        refused = self._admission.admit_all(begun)
        if refused:
            for call, reason in refused:
                self._guard.fail(call, reason)
            gone = {call for call, _ in refused}
            begun = [arrival for arrival in begun if arrival[2] not in gone]
        self._hand_over(begun)

    def _hand_over(self, arrivals: Sequence[Arrival]) -> None:
        """Passes admitted calls to their handlers, adjacent calls of one method together."""
        for method, group in groupby(arrivals, itemgetter(0)):
            group_handler = self._group_handlers.get(method)
            if group_handler is not None:
                group_handler.handle_all(list(group), self._guard.fail)
                continue
            for _, message, call in group:
                try:
                    self._handlers[method](message, call)
                except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
                    self._guard.fail(call, error)

    def _begin(self, method: str, message: bytes, call: Call, now_ns: int) -> Handler | None:
        """Registers a call and returns its handler if its token permits it; None: it may be a probe."""
        record = None if self._observer is None else self._observer.record(method, call, now_ns)
        call.begin(method, self._listener, now_ns, record)
        handler = self._handlers.get(method)
        if handler is not None and self._authorizer is not None:
            principal = self._authorizer.authorize(method, message, call.metadata())
            if principal is not None:
                call.belongs_to(principal)
        return handler

    def fail(self, method: str, call: Call, error: Exception) -> None:
        """Answers a call that its transport could not dispatch, as if its handler raised `error`."""
        call.begin(method, self._listener, time.monotonic_ns(), None)
        self._guard.fail(call, error)

    def hold(self, most: int) -> HeldCalls:
        """Holds up to `most` new calls until `release`; probes are still answered."""
        held = HeldCalls(partial(Dispatcher.handle, self), self._handlers, most)
        # Replaces the methods, so this costs nothing while off.
        self.handle, self.handle_all = held.take, held.take_all  # type: ignore[method-assign]  # see above
        return held

    def release(self, held: HeldCalls) -> None:
        """Handles the held calls and all new ones."""
        del self.handle, self.handle_all
        held.release()

    def refuse(self, method: str, call: Call, status: CallStatus) -> None:
        """Answers a call that its transport refuses, with exactly this status.

        Triton's codes are not applied: such refusals, as of a too large message, are not worth a retry.
        """
        now_ns = time.monotonic_ns()
        record = None if self._observer is None else self._observer.record(method, call, now_ns)
        call.begin(method, self._refusals, now_ns, record)
        call.fail(status)
