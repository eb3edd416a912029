"""The HTTP API's routes: the gRPC method of each path, and its answer."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pixelserve.oip import inference_pb2 as pb

from ...access.authorizer import Authorizer
from ...errors import RequestError
from ...failures import FailureLog
from .. import classifier, open_inference
from ..admission import FailureCounts
from ..codes import StatusCode
from ..dispatch import Dispatcher
from ..status import status_of
from . import cross_site, json_body, pictures
from .assets import Assets
from .body import BodyReader
from .docs import DocsPaths
from .http_call import HttpInvoker, metadata
from .infer import Inference
from .messages import as_json
from .page import PagePaths
from .repository import RepositoryPaths
from .shared_memory import SharedMemoryPaths
from .status import CallerLeft, HttpError, http_error

# Only over HTTP, where tensors are otherwise JSON.
_BINARY_TENSORS = "binary_tensor_data"

# The most frequent requests.
_INFER = re.compile(r"/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/infer")
# TensorFlow Serving's REST API, and KServe's first protocol, which copies it.
_TENSORFLOW_SERVING = re.compile(r"/v1/models(/(?P<model>[^/:]+)(/(versions|labels)/[^/:]+)?(/metadata)?(:\w*)?)?/?")

Handle = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class BodyLimits:
    """Limits of request bodies."""

    max_bytes: int
    """Maximum bytes of one body."""
    max_held_bytes: int
    """Maximum bytes of the bodies of all unanswered requests."""
    max_json_bytes: int
    """Maximum bytes of JSON in one body; parsing them blocks everything else."""
    max_images: int
    """Maximum pictures per form."""
    idle_s: float
    """Seconds that a body may pause before the transport ends its connection."""


class Rest:
    """Answers HTTP requests by calling gRPC methods. Everything runs on the event loop's thread.

    Args:
        dispatcher: handles the calls.
        limits: limits of bodies.
        hosts: the server's names.
        version: the server's version.
        log_failure: logs an unexpected exception and returns the log entry's id.
        failure_counts: counts requests that do not become a call.
        authorizer: checks tokens; None: every call is allowed.
        assets: the page's files; None: the page is off.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        limits: BodyLimits,
        hosts: cross_site.AllowedHosts,
        version: str,
        log_failure: FailureLog,
        failure_counts: FailureCounts,
        authorizer: Authorizer | None = None,
        assets: Assets | None = None,
    ) -> None:
        self._call = HttpInvoker(dispatcher)
        self._bodies = BodyReader(limits.max_bytes, limits.max_held_bytes, limits.idle_s)
        self._infer = Inference(self._call, self._bodies, limits.max_json_bytes)
        self._limits = limits
        self._hosts = hosts
        self._log_failure = log_failure
        self._failure_counts = failure_counts
        self._authorizer = authorizer
        self._assets = assets
        self._docs = DocsPaths(self._call, version, needs_token=authorizer is not None)

    def app(self) -> ASGIApp:
        """Returns the ASGI application."""
        others = self._others()

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                # A WebSocket, which is answered 403.
                await send({"type": "websocket.close"})
                return
            method, path, headers = scope["method"], scope["path"], dict(scope["headers"])
            error = cross_site.refusal(method, path, headers, self._hosts)
            inference = _INFER.fullmatch(path)
            if error is not None:
                await self._failure(error)(scope, receive, send)
            elif inference is None:
                await others(scope, receive, send)
            elif method != "POST":
                await self._failure(_wrong_method(path, method, {"Allow": "POST"}))(scope, receive, send)
            else:
                # Without Starlette, which took longer per request than the model.
                named = inference["model"], inference["version"] or ""
                await self._answer_inference(*named, scope, headers, receive, send)

        return answer

    def _others(self) -> Starlette:
        """Returns the application of all paths except inference."""
        model, of_version = "/v2/models/{model}", "/versions/{version}"
        get: dict[str, Handle] = {
            "/v2": self._metadata,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/v2/models/stats": self._stats,
        }
        post: dict[str, Handle] = {
            "/v1/models/{model}:classify": self._classify,
            f"/v1/models/{{model}}{of_version}:classify": self._classify,
        }
        for path in (model, model + of_version):
            get |= {
                path: self._model_metadata,
                f"{path}/ready": self._model_ready,
                f"{path}/config": self._model_config,
                f"{path}/stats": self._stats,
            }
        regions, repository = SharedMemoryPaths(self._ask, self._bodies), RepositoryPaths(self._ask, self._bodies)
        get |= regions.get() | PagePaths(self._call, self._assets).get() | self._docs.get()
        changes = repository.changes() | regions.post()
        post |= repository.reads() | {path: _without_forms(handle) for path, handle in changes.items()}
        return Starlette(
            routes=[
                Route(path, self._guarded(handle), methods=[method])
                for method, routes in (("GET", get), ("POST", post))
                for path, handle in routes.items()
            ],
            exception_handlers={HTTPException: self._no_route},
        )

    async def _answer_inference(
        self, model: str, version: str, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        try:
            if self._authorizer is not None:
                self._authorizer.authenticate(metadata(scope))
            body, answer_headers = await self._infer(model, version, scope, headers, receive)
        except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
            await self._failure(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": answer_headers})
        await send({"type": "http.response.body", "body": body})

    def _guarded(self, handle: Handle) -> Handle:
        """Returns an endpoint that answers with the error that `handle` raises."""

        async def endpoint(request: Request) -> Response:
            try:
                if self._authorizer is not None and request.method == "POST":
                    # The dispatcher checks again, but only after reading the body, which may be large.
                    self._authorizer.authenticate(request.headers.items())
                return await handle(request)
            except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
                return self._failure(error)

        return endpoint

    def _failure(self, error: Exception) -> Response:
        """Counts a failure and returns its answer."""
        if isinstance(error, CallerLeft):
            return Response(status_code=499)
        if isinstance(error, HttpError):
            if not error.is_of_call:
                self._failure_counts.add_http(str(error.status), "")
            return _error(error)
        if isinstance(error, RequestError):
            status = status_of(error)
            self._failure_counts.add_http(status.code.name, status.reason)
            return _error(http_error(status))
        request_id = self._log_failure(error)
        self._failure_counts.add_http(StatusCode.INTERNAL.name, "internal_error")
        return _error(HttpError(500, f"internal error; the server's log has the details under {request_id}"))

    async def _ask(self, request: Request, method: str, message: Message, response: type[Message]) -> Any:
        """Calls a method of the inference service and returns its response."""
        name = f"/{open_inference.SERVICE}/{method}"
        return response.FromString(await self._call(name, message.SerializeToString(), request.scope))

    async def _metadata(self, request: Request) -> Response:
        metadata = await self._ask(request, "ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
        metadata.extensions.append(_BINARY_TENSORS)
        return _json(as_json(metadata))

    async def _live(self, request: Request) -> Response:
        answer = await self._ask(request, "ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse)
        return _health(answer.live, {"live": answer.live})

    async def _ready(self, request: Request) -> Response:
        answer = await self._ask(request, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse)
        return _health(answer.ready, {"ready": answer.ready})

    async def _model_ready(self, request: Request) -> Response:
        asked = pb.ModelReadyRequest(**_named(request))
        answer = await self._ask(request, "ModelReady", asked, pb.ModelReadyResponse)
        return _health(answer.ready, {"name": asked.name, "ready": answer.ready})

    async def _model_metadata(self, request: Request) -> Response:
        asked = pb.ModelMetadataRequest(**_named(request))
        return _json(as_json(await self._ask(request, "ModelMetadata", asked, pb.ModelMetadataResponse)))

    async def _model_config(self, request: Request) -> Response:
        asked = pb.ModelConfigRequest(**_named(request))
        return _json(as_json((await self._ask(request, "ModelConfig", asked, pb.ModelConfigResponse)).config))

    async def _stats(self, request: Request) -> Response:
        asked = pb.ModelStatisticsRequest(**_named(request))
        return _json(as_json(await self._ask(request, "ModelStatistics", asked, pb.ModelStatisticsResponse)))

    async def _classify(self, request: Request) -> Response:
        named = _named(request)
        with self._bodies.room() as room:
            body = await room.read(dict(request.scope["headers"]), request.receive)
            message, names = await pictures.to_message(
                named["name"], named["version"], body, request.headers, request.query_params, self._limits.max_images
            )
            answer = await self._call(f"/{classifier.SERVICE}/Classify", message, request.scope)
        return _json(pictures.to_json(answer, names))

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        self._failure_counts.add_http(str(status), "")
        headers = dict(getattr(error, "headers", None) or {})
        # Not from `request.url`, which fails if the query is not text.
        path = str(request.scope["path"])[:200]
        if status == 405:
            return _error(_wrong_method(path, request.method, headers))
        return _error(HttpError(status, f"there is no {path} here; {_way_from(path)}", headers))


def _without_forms(handle: Handle) -> Handle:
    """Returns a handler that refuses bodies which web pages can send without a preflight request."""

    async def checked(request: Request) -> Response:
        cross_site.refuse_forms(request.headers)
        return await handle(request)

    return checked


def _wrong_method(path: str, method: str, headers: dict[str, str]) -> HttpError:
    return HttpError(405, f"{path} does not accept {method}; use {headers.get('Allow', 'another')}", headers)


def _way_from(path: str) -> str:
    """Returns a hint for a path that does not exist."""
    other_server = _TENSORFLOW_SERVING.fullmatch(path)
    if other_server is None:
        return "see GET /docs"
    model = other_server["model"] or "MODEL"
    return (
        f"it belongs to TensorFlow Serving's API, which this server does not have: send tensors to "
        f"POST /v2/models/{model}/infer and pictures to POST /v1/models/{model}:classify; GET /v2/models/{model} "
        f"returns the model's inputs, POST /v2/repository/index all models"
    )


def _named(request: Request) -> dict[str, str]:
    """Returns the name and version in a path, or empty strings."""
    parameters = request.path_params
    return {"name": parameters.get("model", ""), "version": parameters.get("version", "")}


def _json(content: object, status: int = 200) -> Response:
    return Response(json_body.dump(content), status, media_type="application/json")


def _health(is_well: bool, content: object) -> Response:
    """Returns 200, or 400, because the protocol requires 4xx if not live or not ready."""
    return _json(content, 200 if is_well else 400)


def _error(error: HttpError) -> Response:
    response = _json({"error": error.message}, error.status)
    response.headers.update(error.headers)
    return response
