"""ModelInfer: from serialized requests to the batcher, one by one or those that arrive together at once."""

import time
from collections.abc import Callable, Mapping, Sequence

from pixelserve.oip import inference_pb2 as pb

from ..engine.batcher import Batcher
from ..engine.regions import Regions
from ..errors import RequestError, Unloading
from ..repository.catalogue import Catalogue
from .call import Arrival, Call, Subject
from .codec import parse
from .infer_request import InferRequest
from .plan import Plan, PlanCache, dissect, find_version
from .shared_memory import fetch_inputs


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
        arrived_ns, generation = time.monotonic_ns(), self._catalogue.generation
        known = self._known(message, generation)
        if known is None:
            request = self._new(message, call, generation, arrived_ns)
        else:
            plan, id_field, data_at = known
            request = InferRequest(call, plan, id_field, arrived_ns, plan.layout, (memoryview(message)[data_at:],))
        call.on_cancel(request.cancel)
        try:
            request.plan.batcher.submit(request, call.may_compute)
        except Unloading:
            self._submit_elsewhere(message, call, arrived_ns)
        except RequestError:
            call.subject = request.subject()
            raise

    def handle_all(self, arrivals: Sequence[Arrival], fail: Callable[[Call, Exception], None]) -> None:
        """Queues the requests of calls that arrived together, as `GroupHandler` says: those of a version at once."""
        arrived_ns, generation = time.monotonic_ns(), self._catalogue.generation
        groups: dict[Batcher, list[InferRequest]] = {}
        # Most have the head and the size of the one before: a comparison finds all that was found for that.
        head, size = b"", -1
        for _, message, call in arrivals:
            try:
                if len(message) != size or not message.startswith(head):
                    known = self._known(message, generation)
                    if known is None:
                        # Those that are known need not wait for this one to be parsed.
                        self._submit_all(groups, arrivals, fail)
                        groups, size = {}, -1
                        request = self._new(message, call, generation, arrived_ns)
                        call.on_cancel(request.cancel)
                        groups[request.plan.batcher] = [request]
                        continue
                    plan, id_field, data_at = known
                    group = groups.setdefault(plan.batcher, [])
                    head, size = message[:data_at], len(message)
                data = memoryview(message)[data_at:]
                request = InferRequest(call, plan, id_field, arrived_ns, plan.layout, (data,))
                call.on_cancel(request.cancel)
                group.append(request)
            except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
                fail(call, error)
        self._submit_all(groups, arrivals, fail)

    def _submit_all(
        self,
        groups: Mapping[Batcher, Sequence[InferRequest]],
        arrivals: Sequence[Arrival],
        fail: Callable[[Call, Exception], None],
    ) -> None:
        for batcher, requests in groups.items():
            refused: Sequence[tuple[InferRequest, Exception]]
            try:
                refused = batcher.submit_all(requests)
            except Exception as unexpected:  # noqa: BLE001  an unexpected error must cost its callers only
                refused = [(request, unexpected) for request in requests]
            for request, error in refused:
                self._refused(request, error, arrivals, fail)

    def _refused(
        self,
        request: InferRequest,
        error: Exception,
        arrivals: Sequence[Arrival],
        fail: Callable[[Call, Exception], None],
    ) -> None:
        call = request.call
        call.subject = request.subject()
        if isinstance(error, Unloading):
            message = next(message for _, message, each in arrivals if each is call)
            try:
                self._submit_elsewhere(message, call, request.arrived_ns)
                return
            except Exception as final:  # noqa: BLE001  an unexpected error must cost its caller only
                error = final
        fail(call, error)

    def _submit_elsewhere(self, message: bytes, call: Call, arrived_ns: int) -> None:
        """Queues a request whose version left after it was looked up, with what took its place."""
        while True:
            generation = self._catalogue.generation
            request = self._parse(message, call, arrived_ns)
            call.on_cancel(request.cancel)
            try:
                request.plan.batcher.submit(request)
            except Unloading:
                # It has left as well, or nothing has taken its place.
                if self._catalogue.generation == generation:
                    raise
            else:
                return

    def _known(self, message: bytes, generation: int) -> tuple[Plan, bytes, int] | None:
        """Returns the plan for a message, its id's field, and where its tensor begins; None: its head is not known."""
        known = self._plans.recall(message, generation)
        if known is not None:
            return known
        parts = dissect(message)
        plan = None if parts is None else self._plans.get(message, parts, generation)
        return None if parts is None or plan is None else (plan, parts.id_field, parts.data_at)

    def _new(self, message: bytes, call: Call, generation: int, arrived_ns: int) -> InferRequest:
        """Returns the request of a message whose head is not known, and remembers the head."""
        request = self._parse(message, call, arrived_ns)
        parts = dissect(message)
        if parts is not None and request.plan.is_reusable:
            self._plans.put(parts, request.plan, generation)
        return request

    def _parse(self, message: bytes, call: Call, arrived_ns: int) -> InferRequest:
        admission = call.admission
        parsed = parse(message) if admission is None else parse(message, lambda size: admission.add(call, size))
        head = parsed.head
        call.subject = Subject(head.model_name, head.model_version, head.id)
        plan = Plan(parsed, find_version(head, self._catalogue), self._regions)
        parsed = fetch_inputs(parsed, self._regions, call)
        inputs = plan.decode(parsed)
        id_field: bytes = pb.ModelInferResponse(id=head.id).SerializeToString()
        return InferRequest.of_arrays(call, plan, id_field, arrived_ns, inputs)
