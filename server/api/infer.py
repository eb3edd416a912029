"""ModelInfer: from a serialized request to the batcher, and from its answer to a serialized response."""

import time
from collections.abc import Sequence
from typing import Any

from pixelserve.oip import inference_pb2 as pb

from ..engine.regions import Regions
from ..engine.request import ComputedBatch, Layout, Request
from ..engine.tensors import Array
from ..errors import InternalError, RequestError, Unloading
from ..repository.catalogue import Catalogue
from ..repository.loader import LoadedVersion
from .call import Call, Subject
from .codec import parse
from .plan import Plan, PlanCache, dissect, find_version
from .shared_memory import fetch_inputs
from .status import status_of


class _InferRequest(Request):
    """A call's tensors on their way through the batcher."""

    def __init__(
        self, call: Call, plan: Plan, id_field: bytes, arrived_ns: int, layout: Layout, buffers: Sequence[Any]
    ) -> None:
        # Written out rather than inherited: this is done for every request.
        self._call = call
        self._plan = plan
        self._id_field = id_field
        self.arrived_ns = arrived_ns
        self.layout = layout
        self.buffers = buffers
        self.rows = plan.rows
        deadline_s = call.deadline_s
        self.deadline_ns = None if deadline_s is None else int(deadline_s * 1e9)
        if plan.waits_specially:
            self.timeout_ns = plan.timeout_ns
            self.priority = plan.priority

    @classmethod
    def of_arrays(
        cls, call: Call, plan: Plan, id_field: bytes, arrived_ns: int, inputs: dict[str, Array]
    ) -> "_InferRequest":
        """Returns the request of a call whose tensors were parsed."""
        request = cls(call, plan, id_field, arrived_ns, Layout.of(inputs), tuple(inputs.values()))
        request._inputs = inputs
        return request

    def succeed(self, batch: ComputedBatch, start: int, end: int) -> None:
        try:
            response = self._plan.encode(self._id_field, batch, start, end)
        except RequestError as error:
            self._call.fail(status_of(error))
            return
        except Exception:
            # Raised again for the log; the caller must not wait for an answer that never comes.
            name = self._plan.loaded.name
            self._call.fail(status_of(InternalError(f"model {name}: its outputs cannot be written as an answer")))
            raise
        call = self._call
        if call.record is not None:
            call.subject = self.subject()
            call.record.computed(batch, self.arrived_ns)
        if self._plan.wants_timings:
            call.trailing = _timings(batch, self.arrived_ns, self._plan.loaded)
        call.reply(response)

    def fail(self, error: RequestError) -> None:
        self._call.subject = self.subject()
        self._call.fail(status_of(error))

    def subject(self) -> Subject:
        """Returns what it is about."""
        loaded = self._plan.loaded
        return Subject(loaded.name, str(loaded.version), pb.ModelInferResponse.FromString(self._id_field).id)


def _timings(batch: ComputedBatch, arrived_ns: int, loaded: LoadedVersion) -> tuple[tuple[str, str], ...]:
    """Returns what a request's run took and was, as metadata."""
    return (
        ("pixelserve-queue-us", str((batch.started_ns - arrived_ns) // 1000)),
        ("pixelserve-compute-us", str((batch.computed_ns - batch.started_ns) // 1000)),
        ("pixelserve-batch-size", str(batch.rows)),
        ("pixelserve-bucket", str(batch.padded)),
        ("pixelserve-provider", loaded.provider),
        ("pixelserve-version", str(loaded.version)),
    )


class ModelInfer:
    """Handles ModelInfer. May be called from any thread."""

    def __init__(self, catalogue: Catalogue, regions: Regions) -> None:
        """Stores what it is handed: the loaded models, and the shared memory that requests may point into."""
        self._catalogue = catalogue
        self._regions = regions
        self._plans = PlanCache()

    def __call__(self, message: bytes, call: Call) -> None:
        """Queues a request; the call is answered when its batch has run.

        Raises:
            RequestError: the request is wrong, or is not taken now.
        """
        arrived_ns = time.monotonic_ns()
        generation = self._catalogue.generation
        known = self._plans.recall(message, generation) or self._look_up(message, generation)
        if known is None:
            request, plan = self._parse(message, call, arrived_ns)
            parts = dissect(message)
            if parts is not None and plan.is_reusable:
                self._plans.put(parts, plan, generation)
        else:
            plan, id_field, data_at = known
            request = _InferRequest(call, plan, id_field, arrived_ns, plan.layout, (memoryview(message)[data_at:],))
        call.on_cancel(request.cancel)
        try:
            plan.batcher.submit(request, call.may_compute)
        except Unloading:
            self._submit_elsewhere(message, call, arrived_ns)
        except RequestError:
            call.subject = request.subject()
            raise

    def _submit_elsewhere(self, message: bytes, call: Call, arrived_ns: int) -> None:
        """Queues a request whose version left after it was looked up, with what took its place."""
        while True:
            generation = self._catalogue.generation
            request, plan = self._parse(message, call, arrived_ns)
            call.on_cancel(request.cancel)
            try:
                plan.batcher.submit(request, call.may_compute)
            except Unloading:
                # It has left as well, or nothing has taken its place.
                if self._catalogue.generation == generation:
                    raise
            else:
                return

    def _look_up(self, message: bytes, generation: int) -> tuple[Plan, bytes, int] | None:
        parts = dissect(message)
        plan = None if parts is None else self._plans.get(message, parts, generation)
        return None if parts is None or plan is None else (plan, parts.id_field, parts.data_at)

    def _parse(self, message: bytes, call: Call, arrived_ns: int) -> tuple[_InferRequest, Plan]:
        admission = call.admission
        parsed = parse(message) if admission is None else parse(message, lambda size: admission.add(call, size))
        head = parsed.head
        call.subject = Subject(head.model_name, head.model_version, head.id)
        plan = Plan(parsed, find_version(head, self._catalogue), self._regions)
        parsed = fetch_inputs(parsed, self._regions, call)
        inputs = plan.decode(parsed)
        id_field: bytes = pb.ModelInferResponse(id=head.id).SerializeToString()
        return _InferRequest.of_arrays(call, plan, id_field, arrived_ns, inputs), plan
