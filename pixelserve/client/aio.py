"""The client for asyncio: a thin shell over batching and retrying."""

import asyncio
import collections
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, cast, overload

from pixelserve.oip import inference_pb2 as oip
from pixelserve.v1 import classifier_pb2 as pb

from . import health, models
from .async_pool import AsyncConnectionPool
from .batching import Batch, Inversion, Query, chunks
from .channel import CHECK, CLASSIFY, LIST_MODELS, LOAD_MODEL, UNLOAD_MODEL, Configuration
from .errors import CallError
from .limits import Retry, Tls
from .models import ModelVersion
from .pictures import Picture, is_picture, takes_long
from .predictions import Prediction

_ONCE = Retry(attempts=1)


class AsyncClient:
    """Classifies pictures with PixelServe servers, from asyncio: `Client` with `await`.

    Bound to the event loop that first uses it; its tasks may share it. Connects on the first call. Files are read, and
    PIL images compressed, in threads. Close it, or use it in an `async with` statement: closing ends pending calls with
    `ClosedError`.

    Example:
        >>> async def main():
        ...     async with AsyncClient("127.0.0.1:8001") as client:
        ...         return await client.classify("seven.png", model="mnist-cnn")
        >>> asyncio.run(main()).label
        '7'
    """

    def __init__(
        self,
        target: str | Sequence[str] = "127.0.0.1:8001",
        *,
        timeout_s: float = 10.0,
        retry: Retry = Retry(),  # noqa: B008  (frozen)
        tls: Tls | None = None,
        token: str | None = None,
        token_over_plain_text: bool = False,
        batch_size: int = 32,
        max_in_flight: int = 8,
    ) -> None:
        """Creates a client. Arguments and errors are those of `Client`."""
        self._configuration = Configuration.of(
            target,
            timeout_s=timeout_s,
            retry=retry,
            tls=tls,
            token=token,
            token_over_plain_text=token_over_plain_text,
            batch_size=batch_size,
            max_in_flight=max_in_flight,
        )
        self._connections = AsyncConnectionPool(self._configuration)
        self._in_flight = asyncio.Semaphore(max_in_flight)

    @overload
    async def classify(  # type: ignore[overload-overlap]  # a str is one picture, though it is iterable too
        self,
        images: Picture,
        *,
        model: str,
        version: str = "",
        top_k: int = 1,
        inversion: Inversion | None = None,
        return_seen: bool = False,
        occlusion: int = 0,
        timeout_s: float | None = None,
    ) -> Prediction: ...

    @overload
    async def classify(
        self,
        images: Iterable[Picture] | AsyncIterable[Picture],
        *,
        model: str,
        version: str = "",
        top_k: int = 1,
        inversion: Inversion | None = None,
        return_seen: bool = False,
        occlusion: int = 0,
        timeout_s: float | None = None,
    ) -> list[Prediction]: ...

    async def classify(
        self,
        images: Picture | Iterable[Picture] | AsyncIterable[Picture],
        *,
        model: str,
        version: str = "",
        top_k: int = 1,
        inversion: Inversion | None = None,
        return_seen: bool = False,
        occlusion: int = 0,
        timeout_s: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Classifies one picture, or several in their order.

        Arguments, result and errors are those of `Client.classify`. Cancelling the task cancels its requests.

        Example:
            >>> async def main():
            ...     async with AsyncClient("127.0.0.1:8001") as client:
            ...         return await client.classify(["seven.png", "broken.png"], model="mnist-cnn")
            >>> [prediction.error for prediction in asyncio.run(main())]
            ['', 'this is not a picture']
        """
        query = Query(model, version, top_k, inversion, return_seen, occlusion)
        timeout_s = self._configuration.timeout_s_or(timeout_s)
        if is_picture(images):
            return (await self._classify(query, [images], timeout_s))[0]
        several = cast("Iterable[Picture] | AsyncIterable[Picture]", images)
        return [prediction async for prediction in self._iterate(query, several, timeout_s)]

    def classify_iter(
        self,
        images: Iterable[Picture] | AsyncIterable[Picture],
        *,
        model: str,
        version: str = "",
        top_k: int = 1,
        inversion: Inversion | None = None,
        return_seen: bool = False,
        occlusion: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Prediction, None]:
        """Classifies any number of pictures, in their order, with memory for a few requests only.

        Reads `images` lazily, at most `batch_size` × `max_in_flight` pictures ahead; slow iterables should be
        asynchronous. To leave the loop early, close the iterator (`contextlib.aclosing`), which cancels pending
        requests. Arguments and errors are those of `classify`.

        Example:
            >>> from pathlib import Path
            >>> digits = sorted(Path("digits").iterdir())
            >>> async def main():
            ...     async with AsyncClient("127.0.0.1:8001") as client:
            ...         async for prediction in client.classify_iter(digits, model="mnist-cnn"):
            ...             print(prediction.source, prediction.label)
            >>> asyncio.run(main())
            digits/1.png 7
            digits/2.png 7
        """
        query = Query(model, version, top_k, inversion, return_seen, occlusion)
        return self._iterate(query, images, self._configuration.timeout_s_or(timeout_s))

    async def models(self, name: str = "") -> list[ModelVersion]:
        """Returns the server's model versions, ready or not. Arguments and errors are those of `Client.models`.

        Example:
            >>> async def main():
            ...     async with AsyncClient("127.0.0.1:8001") as client:
            ...         return await client.models()
            >>> [version.name for version in asyncio.run(main()) if version.is_ready]
            ['mnist-cnn']
        """
        request = pb.ListModelsRequest(name=name)
        return models.models_of(await self._connections.call(LIST_MODELS, request, self._configuration.timeout_s))

    async def load_model(self, name: str, *, timeout_s: float | None = None) -> None:
        """Loads a model on the server. Arguments and errors are those of `Client.load_model`.

        Example:
            >>> async def main():
            ...     async with AsyncClient("127.0.0.1:8001") as client:
            ...         await client.load_model("mnist-cnn")
            >>> asyncio.run(main())
        """
        request = oip.RepositoryModelLoadRequest(model_name=name)
        await self._connections.call(LOAD_MODEL, request, self._configuration.timeout_s_or(timeout_s), retry=_ONCE)

    async def unload_model(self, name: str, *, timeout_s: float | None = None) -> None:
        """Unloads a model from the server. Arguments and errors are those of `Client.unload_model`.

        Example:
            >>> async def main():
            ...     async with AsyncClient("127.0.0.1:8001") as client:
            ...         await client.unload_model("mnist-cnn")
            >>> asyncio.run(main())
        """
        request = oip.RepositoryModelUnloadRequest(model_name=name)
        await self._connections.call(UNLOAD_MODEL, request, self._configuration.timeout_s_or(timeout_s), retry=_ONCE)

    async def health(self, service: str = "") -> str:
        """Returns SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN. Arguments and errors are those of `Client.health`.

        Example:
            >>> async def main():
            ...     async with AsyncClient("127.0.0.1:8001") as client:
            ...         return await client.health()
            >>> asyncio.run(main())
            'SERVING'
        """
        try:
            answer = await self._connections.call(
                CHECK, health.request(service), self._configuration.timeout_s, retry=_ONCE
            )
        except CallError as error:
            return health.status_of_failure(error)
        return health.status_of(answer)

    async def close(self) -> None:
        """Ends pending calls with `ClosedError`, and closes the connections. May be called repeatedly.

        Example:
            >>> async def main():
            ...     client = AsyncClient("127.0.0.1:8001")
            ...     await client.close()
            >>> asyncio.run(main())
        """
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _iterate(
        self, query: Query, images: Iterable[Picture] | AsyncIterable[Picture], timeout_s: float
    ) -> AsyncGenerator[Prediction, None]:
        ahead: collections.deque[asyncio.Task[list[Prediction]]] = collections.deque()
        try:
            async for chunk in _chunks(images, query.images_of(self._configuration.batch_size)):
                ahead.append(asyncio.create_task(self._classify_in_turn(query, chunk, timeout_s)))
                if len(ahead) == self._configuration.max_in_flight:
                    for prediction in await ahead.popleft():
                        yield prediction
            while ahead:
                for prediction in await ahead.popleft():
                    yield prediction
        finally:
            # The loop was left, or a request failed: cancel the rest.
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _classify_in_turn(self, query: Query, pictures: list[Picture], timeout_s: float) -> list[Prediction]:
        # Concurrent iterations share the client's limit of requests in flight.
        async with self._in_flight:
            return await self._classify(query, pictures, timeout_s)

    async def _classify(self, query: Query, pictures: list[Picture], timeout_s: float) -> list[Prediction]:
        predictions: list[Prediction] = []
        async for batch in _batches(query, pictures):
            predictions += await self._classify_batch(batch, timeout_s)
        return predictions

    async def _classify_batch(self, batch: Batch, timeout_s: float) -> list[Prediction]:
        if not batch.is_to_be_sent:
            return batch.unsent()
        try:
            answer = await self._connections.call(CLASSIFY, batch.request, timeout_s)
        except CallError as error:
            halves = batch.halves(error)
            if not halves:
                return batch.refused(error)
            return [each for half in halves for each in await self._classify_batch(half, timeout_s)]
        return batch.answered(answer)


async def _chunks(images: Iterable[Picture] | AsyncIterable[Picture], size: int) -> AsyncIterator[list[Picture]]:
    if not isinstance(images, AsyncIterable):
        for chunk in chunks(images, size):
            yield chunk
        return
    chunk = []
    async for picture in images:
        chunk.append(picture)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def _batches(query: Query, pictures: list[Picture]) -> AsyncIterator[Batch]:
    batches = query.batches(pictures)
    if not any(map(takes_long, pictures)):
        for batch in batches:
            yield batch
        return
    while True:
        following = await asyncio.to_thread(_next, batches)
        if following is None:
            return
        yield following


def _next(batches: Iterator[Batch]) -> Batch | None:
    return next(batches, None)
