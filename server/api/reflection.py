"""grpc.reflection, v1 and v1alpha: the served services and their definitions.

The messages of both versions are equal on the wire; the library has the older ones.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection_pb2

from ..errors import InvalidRequest
from .codec import parse_message
from .status import status_of
from .streaming import HandOver, Metadata, OpenStream

if TYPE_CHECKING:
    from grpc_reflection.v1alpha.reflection import ReflectionServicer

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHODS = tuple(f"/{service}/ServerReflectionInfo" for service in SERVICES)

# Maximum pending answers before the next request is read; each may hold all our definitions.
_WINDOW = 4


class _Definitions:
    """This process's definitions, and those of version 1, which the library lacks.

    Clients request every listed service, and some fail if one is missing.
    """

    def __init__(self) -> None:
        self._all = descriptor_pool.Default()
        self._more = descriptor_pool.DescriptorPool()
        older = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(older)
        newer = text_format.MessageToString(older).replace("v1alpha", "v1")
        self._more.Add(text_format.Parse(newer, descriptor_pb2.FileDescriptorProto()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)

    def FindFileByName(self, name: str) -> Any:  # noqa: N802  the library's name
        return self._find("FindFileByName", name)

    def FindFileContainingSymbol(self, name: str) -> Any:  # noqa: N802  the library's name
        return self._find("FindFileContainingSymbol", name)

    def _find(self, by: str, name: str) -> Any:
        try:
            return getattr(self._all, by)(name)
        except KeyError:
            return getattr(self._more, by)(name)


class _Questions(OpenStream):
    def __init__(self, servicer: "ReflectionServicer", on_change: Callable[[], None]) -> None:
        self._servicer = servicer
        self._on_change = on_change
        self._answers: deque[bytes] = deque()
        self._unwritten = 0
        self._is_finished = False

    @property
    def has_room(self) -> bool:
        return self._unwritten < _WINDOW

    @property
    def is_over(self) -> bool:
        return self._is_finished and not self._answers

    @property
    def has_answer(self) -> bool:
        return bool(self._answers)

    def take(self, message: bytes) -> None:
        try:
            request = parse_message(reflection_pb2.ServerReflectionRequest, message)
            # The library's service uses only the requests.
            (answer,) = self._servicer.ServerReflectionInfo(iter((request,)), None)  # type: ignore[arg-type]  # no context
        except InvalidRequest as error:
            self.status = status_of(error)
            self._is_finished = True
        else:
            self._unwritten += 1
            self._answers.append(answer.SerializeToString())
        self._on_change()

    def finish(self) -> None:
        self._is_finished = True
        self._on_change()

    def next_answer(self) -> bytes | None:
        return self._answers.popleft() if self._answers else None

    def written(self) -> None:
        self._unwritten -= 1

    def close(self) -> None:
        self._is_finished = True
        self._answers.clear()
        self._on_change()


class Reflection:
    """Answers requests about the served services. Thread-safe."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services`: full names of the services beside its own."""
        self._services = (*services, *SERVICES)

    @cached_property
    def _servicer(self) -> "ReflectionServicer":
        # Imported by the first call: it imports grpc, which the default transport does not need.
        from grpc_reflection.v1alpha.reflection import ReflectionServicer

        return ReflectionServicer(self._services, pool=_Definitions())

    def open(
        self,
        deadline_s: float | None,
        metadata: Metadata = (),
        *,
        on_change: Callable[[], None] = lambda: None,
        hand_over: HandOver | None = None,
    ) -> OpenStream:
        """Opens a call; see `StreamedMethod`."""
        return _Questions(self._servicer, on_change)
