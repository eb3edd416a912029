"""A ModelInfer call's request for the batcher, and its answer, alone or with the others of its run."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from pixelserve.oip import inference_pb2 as pb

from ..engine.request import ComputedBatch, Layout, Request
from ..engine.tensors import Array
from ..errors import InternalError, RequestError
from ..failures import FailureLog
from ..repository.loaded import LoadedVersion
from .call import Call, Subject
from .plan import Plan
from .status import status_of


class InferRequest(Request):
    """A call's tensors for the batcher."""

    def __init__(
        self, call: Call, plan: Plan, id_field: bytes, arrived_ns: int, layout: Layout, buffers: Sequence[Any]
    ) -> None:
        # Without super().__init__: this runs for every request.
        self.call = call
        self.plan = plan
        self.id_field = id_field
        self.arrived_ns = arrived_ns
        self.layout = layout
        self.buffers = buffers
        self.rows = plan.rows
        self.sender = call.sender
        self.waited_ns = call.waited_ns
        deadline_s = call.deadline_s
        self.deadline_ns = None if deadline_s is None else int(deadline_s * 1e9)
        if plan.waits_specially:
            self.timeout_ns = plan.timeout_ns
            self.priority = plan.priority

    @classmethod
    def of_arrays(
        cls, call: Call, plan: Plan, id_field: bytes, arrived_ns: int, inputs: dict[str, Array]
    ) -> "InferRequest":
        """Returns the request of a call with parsed tensors."""
        request = cls(call, plan, id_field, arrived_ns, Layout.of(inputs), tuple(inputs.values()))
        request._inputs = inputs
        return request

    @staticmethod
    def succeed_all(
        requests: Sequence[Request], batch: ComputedBatch, log_failure: FailureLog, first_row: int = 0
    ) -> None:
        if len(requests) == 1:
            Request.succeed_all(requests, batch, log_failure, first_row)
            return
        replied: list[Call] = []
        try:
            for plan, group in _by_plan(requests):
                messages = _encode_run(plan, group, batch, first_row)
                if messages is None:
                    Request.succeed_all(group, batch, log_failure, first_row)
                else:
                    _reply_all(group, messages, batch, replied, log_failure)
                first_row += sum([request.rows for request in group])
        finally:
            if replied and (listener := replied[0].listener) is not None:
                listener.all_replied(replied)

    def succeed(self, batch: ComputedBatch, start: int, end: int) -> None:
        try:
            response = self.plan.encode(self.id_field, batch, start, end)
        except RequestError as error:
            self.call.fail(status_of(error))
            return
        except Exception:
            # Raised again for the log; the caller must still get an answer.
            name = self.plan.loaded.name
            self.call.fail(status_of(InternalError(f"model {name}: its outputs cannot be written as an answer")))
            raise
        self.reply(response, batch)

    def reply(self, response: bytes, batch: ComputedBatch) -> None:
        """Answers its call with the outputs of a run."""
        call = self.call
        if call.record is not None:
            call.subject = self.subject()
            call.record.computed(batch, self.arrived_ns, self.rows)
        call.reply(response, _timings(batch, self.arrived_ns, self.plan.loaded) if self.plan.wants_timings else ())

    def fail(self, error: RequestError) -> None:
        # Computed only if it is logged: under overload, reading the id costs as much as the refusal.
        self.call.subject = self.subject
        self.call.fail(status_of(error))

    def subject(self) -> Subject:
        """Returns its subject."""
        loaded = self.plan.loaded
        return Subject(loaded.name, str(loaded.version), pb.ModelInferResponse.FromString(self.id_field).id)


def _plan_of(request: Request) -> Plan | None:
    return request.plan if isinstance(request, InferRequest) else None


def _by_plan(requests: Sequence[Request]) -> Iterable[tuple[Plan | None, Sequence[Any]]]:
    """Groups adjacent requests of a run by plan, in order."""
    plan = _plan_of(requests[0])
    others = [each for each in requests if type(each) is not InferRequest or each.plan is not plan]
    if not others:
        return ((plan, requests),)
    return [(plan, list(group)) for plan, group in groupby(requests, _plan_of)]


def _encode_run(plan: Plan | None, requests: Sequence[Any], batch: ComputedBatch, first_row: int) -> list[bytes] | None:
    """Returns the answers of requests of one plan; None if each must be answered by itself."""
    if plan is None:
        return None
    try:
        return plan.encode_run([request.id_field for request in requests], batch, first_row)
    except Exception:  # noqa: BLE001  each will fail again by itself, and be logged
        return None


def _reply_all(
    requests: Sequence[InferRequest],
    messages: Sequence[bytes],
    batch: ComputedBatch,
    replied: list[Call],
    log_failure: FailureLog,
) -> None:
    """Answers calls; adds those still to be counted to `replied`."""
    for request, message in zip(requests, messages, strict=True):
        call = request.call
        try:
            if call.record is not None or request.plan.wants_timings:
                request.reply(message, batch)
            elif call.claim():
                refusal = call.hold(message)
                if refusal is None:
                    replied.append(call)
                    call.post(message)
                else:
                    call.end(refusal)
        except Exception as error:  # noqa: BLE001  one failing caller must not strand the others
            log_failure(error)
    # One call per transport: its answers leave together.
    for call in {type(request.call): request.call for request in requests}.values():
        call.flush()


def _timings(batch: ComputedBatch, arrived_ns: int, loaded: LoadedVersion) -> tuple[tuple[str, str], ...]:
    """Returns the timings of a request's run, as metadata."""
    return (
        ("pixelserve-queue-us", str((batch.started_ns - arrived_ns) // 1000)),
        ("pixelserve-compute-us", str((batch.computed_ns - batch.started_ns) // 1000)),
        ("pixelserve-batch-size", str(batch.rows)),
        ("pixelserve-bucket", str(batch.padded)),
        ("pixelserve-provider", loaded.provider),
        ("pixelserve-version", str(loaded.version)),
    )
