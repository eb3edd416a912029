"""ModelInfer: passes serialized requests to the batcher, one by one or in groups."""

import time
from collections.abc import Callable, Mapping, Sequence

from pixelserve.oip import inference_pb2 as pb

from ..engine.batcher import Batcher
from ..engine.regions import Regions
from ..errors import DeadlineExceeded, RequestError, Unloading
from ..repository.catalogue import Catalogue
from .call import Arrival, Call, Subject
from .codec import SMALL_BYTES, parse
from .infer_request import InferRequest
from .plan import Plan, find_version
from .plan_cache import PlanCache
from .shared_memory import fetch_inputs

_EXPIRED = "the deadline passed before the server could look at the request; allow more time or send to fewer at once"


class ModelInfer:
    """Handles ModelInfer. Thread-safe."""

    def __init__(self, catalogue: Catalogue, regions: Regions) -> None:
        """`regions`: shared memory that requests may use."""
        self._catalogue = catalogue
        self._regions = regions
        self._plans = PlanCache()

    def __call__(self, message: bytes, call: Call) -> None:
        """Queues a request; the call is answered when its batch has run.

        Raises:
            RequestError: the request is invalid, or refused now.
        """
        arrived_ns, generation = time.monotonic_ns(), self._catalogue.generation
        _check_deadline(call, arrived_ns)
        request = self._recall(message, call, generation, arrived_ns)
        if request is None:
            request = self._parse(message, call, generation, arrived_ns)
        call.on_cancel(request.cancel)
        try:
            request.plan.batcher.submit(request, call.may_compute)
        except Unloading:
            self._submit_elsewhere(message, call, arrived_ns)
        except RequestError:
            call.subject = request.subject
            raise

    def handle_all(self, arrivals: Sequence[Arrival], fail: Callable[[Call, Exception], None]) -> None:
        """Queues the requests of calls that arrived together, those of one version at once; see `GroupHandler`."""
        arrived_ns, generation = time.monotonic_ns(), self._catalogue.generation
        groups: dict[Batcher, list[InferRequest]] = {}
        for _, message, call in arrivals:
            try:
                _check_deadline(call, arrived_ns)
                request = self._recall(message, call, generation, arrived_ns)
                if request is None:
                    if len(message) > SMALL_BYTES:
                        # The ones before it must not wait for its parsing, which may take long.
                        self._submit_all(groups, arrivals, fail)
                        groups = {}
                    request = self._parse(message, call, generation, arrived_ns)
                call.on_cancel(request.cancel)
                groups.setdefault(request.plan.batcher, []).append(request)
            except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
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
            except Exception as unexpected:  # noqa: BLE001  an unexpected error must affect only its callers
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
        call.subject = request.subject
        if isinstance(error, Unloading):
            message = next(message for _, message, each in arrivals if each is call)
            try:
                self._submit_elsewhere(message, call, request.arrived_ns)
                return
            except Exception as final:  # noqa: BLE001  an unexpected error must affect only its caller
                error = final
        fail(call, error)

    def _submit_elsewhere(self, message: bytes, call: Call, arrived_ns: int) -> None:
        """Queues a request with the replacement of a version that was unloaded after the look-up."""
        while True:
            generation = self._catalogue.generation
            request = self._parse(message, call, generation, arrived_ns)
            call.on_cancel(request.cancel)
            try:
                request.plan.batcher.submit(request)
            except Unloading:
                # It was unloaded as well, or has no replacement.
                if self._catalogue.generation == generation:
                    raise
            else:
                return

    def _recall(self, message: bytes, call: Call, generation: int, arrived_ns: int) -> InferRequest | None:
        """Returns the request of a message with the same head as the last one; None if it must be parsed."""
        known = self._plans.recall(message, generation)
        if known is None:
            return None
        plan, id_field, data = known
        return InferRequest(call, plan, id_field, arrived_ns, plan.layout, (data,))

    def _parse(self, message: bytes, call: Call, generation: int, arrived_ns: int) -> InferRequest:
        """Returns the request of a message; checks its head against its model unless that is cached."""
        parsed = parse(message, call.reserve)
        head = parsed.head
        request_id = head.id
        head.ClearField("id")
        id_field: bytes = pb.ModelInferResponse(id=request_id).SerializeToString()
        key = self._plans.key_of(message, parsed)
        plan = None if key is None else self._plans.get(key, generation)
        if plan is not None:
            return InferRequest(call, plan, id_field, arrived_ns, plan.layout, parsed.raw)
        call.subject = Subject(head.model_name, head.model_version, request_id)
        plan = Plan(parsed, find_version(head, self._catalogue), self._regions)
        inputs = plan.decode(fetch_inputs(parsed, self._regions, call))
        if key is not None and plan.is_reusable:
            self._plans.put(key, plan, generation)
        return InferRequest.of_arrays(call, plan, id_field, arrived_ns, inputs)


def _check_deadline(call: Call, now_ns: int) -> None:
    """Raises DeadlineExceeded if a call is late before its request is examined.

    Under overload these are many, and examining them would delay those that are in time.
    """
    if call.deadline_s is not None and call.deadline_s * 1e9 <= now_ns:
        raise DeadlineExceeded(_EXPIRED)
