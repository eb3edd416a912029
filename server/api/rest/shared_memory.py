"""Shared-memory regions over HTTP: the paths of Triton's clients, answered by gRPC methods."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from pixelserve.oip import inference_pb2 as pb

from ...errors import InvalidRequest
from . import json_body
from .body import BodyReader
from .messages import as_json

Ask = Callable[[Request, str, Message, type[Message]], Awaitable[Any]]
_MAX_UINT64 = 2**64


class SharedMemoryPaths:
    """Answers the paths below /v2/systemsharedmemory and /v2/cudasharedmemory."""

    def __init__(self, ask: Ask, bodies: BodyReader) -> None:
        """Creates the paths.

        Args:
            ask: calls a method of the inference service and returns its response.
            bodies: reads bodies.
        """
        self._ask = ask
        self._bodies = bodies

    def get(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """Returns the handlers of GET by path."""
        return {
            f"/v2/{kind}sharedmemory/{of}status": handle
            for of in ("", "region/{region}/")
            for kind, handle in (("system", self._system_status), ("cuda", self._cuda_status))
        }

    def post(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """Returns the handlers of POST by path."""
        return {
            "/v2/systemsharedmemory/region/{region}/register": self._register,
            "/v2/cudasharedmemory/region/{region}/register": self._register_cuda,
            **{
                f"/v2/{kind}sharedmemory/{of}unregister": handle
                for of in ("", "region/{region}/")
                for kind, handle in (("system", self._unregister), ("cuda", self._unregister_cuda))
            },
        }

    async def _system_status(self, request: Request) -> Response:
        asked = pb.SystemSharedMemoryStatusRequest(name=_region(request))
        return _listing(
            await self._ask(request, "SystemSharedMemoryStatus", asked, pb.SystemSharedMemoryStatusResponse)
        )

    async def _cuda_status(self, request: Request) -> Response:
        asked = pb.CudaSharedMemoryStatusRequest(name=_region(request))
        return _listing(await self._ask(request, "CudaSharedMemoryStatus", asked, pb.CudaSharedMemoryStatusResponse))

    async def _register(self, request: Request) -> Response:
        with self._bodies.room() as room:
            body = await room.read(dict(request.scope["headers"]), request.receive)
            wanted, where = json_body.parse_object(body), f"shared memory region {_region(request)}"
            asked = pb.SystemSharedMemoryRegisterRequest(
                name=_region(request),
                key=json_body.text(wanted, "key", where),
                offset=_bytes(wanted, "offset", where),
                byte_size=_bytes(wanted, "byte_size", where),
            )
            await self._ask(request, "SystemSharedMemoryRegister", asked, pb.SystemSharedMemoryRegisterResponse)
        return Response()

    async def _register_cuda(self, request: Request) -> Response:
        asked = pb.CudaSharedMemoryRegisterRequest(name=_region(request))
        await self._ask(request, "CudaSharedMemoryRegister", asked, pb.CudaSharedMemoryRegisterResponse)
        return Response()

    async def _unregister(self, request: Request) -> Response:
        asked = pb.SystemSharedMemoryUnregisterRequest(name=_region(request))
        await self._ask(request, "SystemSharedMemoryUnregister", asked, pb.SystemSharedMemoryUnregisterResponse)
        return Response()

    async def _unregister_cuda(self, request: Request) -> Response:
        asked = pb.CudaSharedMemoryUnregisterRequest(name=_region(request))
        await self._ask(request, "CudaSharedMemoryUnregister", asked, pb.CudaSharedMemoryUnregisterResponse)
        return Response()


def _region(request: Request) -> str:
    return str(request.path_params.get("region", ""))


def _bytes(wanted: dict[str, Any], name: str, where: str) -> int:
    value = wanted.get(name, 0)
    if type(value) is not int or not 0 <= value < _MAX_UINT64:
        raise InvalidRequest(f"{where}: {name} must be a number of bytes, 0 or more")
    return value


def _listing(response: Any) -> Response:
    regions = [as_json(response.regions[name]) for name in sorted(response.regions)]
    return Response(json_body.dump(regions), media_type="application/json")
