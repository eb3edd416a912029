"""The web page's paths: its files, and models, samples and figures as JSON."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from pixelserve.v1 import classifier_pb2 as pb

from .. import classifier
from . import json_body, pictures
from .assets import PREFIX, Assets
from .http_call import HttpInvoker
from .messages import as_json
from .status import HttpError

Answer = TypeVar("Answer", bound=Message)


class PagePaths:
    """The paths of the page."""

    def __init__(self, call: HttpInvoker, assets: Assets | None) -> None:
        self._call = call
        self._assets = assets

    def get(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """Returns the handler of each path."""
        return {
            "/": self._file,
            f"{PREFIX}{{path:path}}": self._file,
            "/v1/models": self._models,
            "/v1/figures": self._figures,
            "/v1/models/{model}/samples": self._samples,
            "/v1/models/{model}/versions/{version}/samples": self._samples,
        }

    async def _file(self, request: Request) -> Response:
        if self._assets is None:
            raise HttpError(404, "the page is off (--no-page); see GET /docs")
        return self._assets.answer(request)

    async def _models(self, request: Request) -> Response:
        return _json(as_json(await self._ask(request, "ListModels", pb.ListModelsRequest(), pb.ListModelsResponse)))

    async def _figures(self, request: Request) -> Response:
        return _json(as_json(await self._ask(request, "Figures", pb.FiguresRequest(), pb.FiguresResponse)))

    async def _samples(self, request: Request) -> Response:
        asked = pb.SamplesRequest(**{name: request.path_params.get(name, "") for name in ("model", "version")})
        answer = await self._ask(request, "Samples", asked, pb.SamplesResponse)
        return _json({"pictures": [pictures.pixels(each) for each in answer.pictures]})

    async def _ask(self, request: Request, method: str, message: Message, response: type[Answer]) -> Answer:
        return response.FromString(
            await self._call(f"/{classifier.SERVICE}/{method}", message.SerializeToString(), request.scope)
        )


def _json(content: object) -> Response:
    return Response(json_body.dump(content), media_type="application/json")
