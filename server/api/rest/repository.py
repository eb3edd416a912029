"""The model repository over HTTP: its index, loads and unloads."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from pixelserve.oip import inference_pb2 as pb

from ...errors import InvalidRequest
from . import json_body
from .body import BodyReader, translated
from .messages import as_json
from .shared_memory import Ask

Handle = Callable[[Request], Awaitable[Response]]


class RepositoryPaths:
    """Answers the paths below /v2/repository."""

    def __init__(self, ask: Ask, bodies: BodyReader) -> None:
        self._ask = ask
        self._bodies = bodies

    def reads(self) -> dict[str, Handle]:
        """Returns the POST handlers that change nothing."""
        return {"/v2/repository/index": self._index}

    def changes(self) -> dict[str, Handle]:
        """Returns the POST handlers that load and unload models."""
        return {
            "/v2/repository/models/{model}/load": self._load,
            "/v2/repository/models/{model}/unload": self._unload,
        }

    async def _index(self, request: Request) -> Response:
        with self._bodies.room() as room:
            body = await room.read(dict(request.scope["headers"]), request.receive)
            wanted = json_body.parse_object(body) if body else {}
            asked = pb.RepositoryIndexRequest()
            ready = wanted.get("ready", False)
            if not isinstance(ready, bool):
                raise InvalidRequest("ready must be true or false")
            asked.ready = ready
            answer = await self._ask(request, "RepositoryIndex", asked, pb.RepositoryIndexResponse)
        listed = [as_json(each) for each in answer.models]
        return Response(json_body.dump(listed), media_type="application/json")

    async def _load(self, request: Request) -> Response:
        asked = pb.RepositoryModelLoadRequest(model_name=request.path_params["model"])
        await self._change(request, "RepositoryModelLoad", asked, pb.RepositoryModelLoadResponse)
        return Response()

    async def _unload(self, request: Request) -> Response:
        asked = pb.RepositoryModelUnloadRequest(model_name=request.path_params["model"])
        await self._change(request, "RepositoryModelUnload", asked, pb.RepositoryModelUnloadResponse)
        return Response()

    async def _change(self, request: Request, method: str, asked: Any, response: type[Message]) -> None:
        """Loads or unloads; the repository control checks the body's parameters."""
        with self._bodies.room() as room:
            body = await room.read(dict(request.scope["headers"]), request.receive)
            # It may contain a model.
            await translated(len(body), _set_parameters, asked, body)
            await self._ask(request, method, asked, response)


def _set_parameters(asked: Any, body: bytes) -> None:
    """Copies a JSON body's parameters into a request: files as base64, everything else as text."""
    wanted = json_body.parse_object(body) if body else {}
    where = f"model {asked.model_name}"
    for name, value in json_body.member(wanted, "parameters", dict, {}, where).items():
        if name.startswith("file:"):
            asked.parameters[name].bytes_param = _from_base64(name, value)
        else:
            text = value if isinstance(value, str) else json_body.dump(value).decode()
            asked.parameters[name].string_param = text


def _from_base64(name: str, value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except ValueError as error:
        raise InvalidRequest(f'load parameter "{name}" is not base64: {error}') from error
