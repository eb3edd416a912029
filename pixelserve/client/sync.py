"""The client for threads: a thin shell over batching and retrying."""

import collections
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, cast, overload

from pixelserve.oip import inference_pb2 as oip
from pixelserve.v1 import classifier_pb2 as pb

from . import health, models
from .batching import Batch, Inversion, Query, chunks
from .channel import CHECK, CLASSIFY, LIST_MODELS, LOAD_MODEL, UNLOAD_MODEL, Configuration
from .errors import CLOSED, CallError, ClosedError
from .flight import Flight
from .limits import Retry, Tls
from .models import ModelVersion
from .pictures import Picture, is_picture
from .pool import ConnectionPool
from .predictions import Prediction

_ONCE = Retry(attempts=1)


class Client:
    """Classifies pictures with PixelServe servers.

    Thread-safe. Connects on the first call. Close it, or use it in a `with` statement: closing ends pending calls with
    `ClosedError`.

    Example:
        >>> with Client("127.0.0.1:8001") as client:
        ...     client.classify("seven.png", model="mnist-cnn").label
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
        """Creates a client.

        Args:
            target: host:port; several of them, used in turn; or a DNS name, whose addresses are used in turn
                (`dns:///name:8001`).
            timeout_s: seconds per request, including all attempts and waits; `math.inf`: no limit.
            retry: when to retry requests.
            tls: TLS settings; None: plain text.
            token: sent as `authorization: Bearer` with every call. Without TLS, only to this machine.
            token_over_plain_text: also send it to other machines without TLS, on a network that encrypts.
            batch_size: maximum pictures per request, within the server's `--max-images` and the model's max_batch_size.
            max_in_flight: maximum concurrent requests of this client for many pictures.

        Raises:
            SettingsError: an argument is invalid, or a certificate cannot be read; the message names it.
        """
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
        self._connections = ConnectionPool(self._configuration)
        self._pool_lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    @overload
    def classify(  # type: ignore[overload-overlap]  # a str is one picture, though it is iterable too
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
    def classify(
        self,
        images: Iterable[Picture],
        *,
        model: str,
        version: str = "",
        top_k: int = 1,
        inversion: Inversion | None = None,
        return_seen: bool = False,
        occlusion: int = 0,
        timeout_s: float | None = None,
    ) -> list[Prediction]: ...

    def classify(
        self,
        images: Picture | Iterable[Picture],
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

        Args:
            images: one or several pictures: paths, bytes of image files, PIL images, uint8 arrays [H, W] or
                [H, W, 1, 3 or 4].
            model: the model's name.
            version: the model's version; empty: the server's choice.
            top_k: number of top classes to return, at least 1.
            inversion: whether to invert pictures: never, always, auto; None: the model's setting.
            return_seen: whether to return the picture as the model saw it, in `seen`.
            occlusion: cells per side, 2 to 8, of a map of what the answer depends on, in `occlusion`; 0: none. The
                server computes cells × cells + 1 pictures in one batch, and each picture is a separate request.
            timeout_s: seconds per request, including all attempts and waits; None: the client's.

        Returns:
            A prediction for one picture, a list for several. A picture that cannot be read, here or by the server,
            has its `error` set and does not affect the others.

        Raises:
            CallError: a request failed permanently; the class gives the cause.
            ClosedError: the client was closed.
            TypeError, ValueError: an item is not a picture; the message says what to do.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     two = client.classify(["seven.png", "broken.png"], model="mnist-cnn")
            >>> [prediction.label for prediction in two if not prediction.error]
            ['7']
            >>> two[1].error
            'this is not a picture'
        """
        query = Query(model, version, top_k, inversion, return_seen, occlusion)
        timeout_s = self._configuration.timeout_s_or(timeout_s)
        if is_picture(images):
            return self._classify(query, [images], timeout_s)[0]
        return list(self._iterate(query, cast("Iterable[Picture]", images), timeout_s))

    def classify_iter(
        self,
        images: Iterable[Picture],
        *,
        model: str,
        version: str = "",
        top_k: int = 1,
        inversion: Inversion | None = None,
        return_seen: bool = False,
        occlusion: int = 0,
        timeout_s: float | None = None,
    ) -> Generator[Prediction, None, None]:
        """Classifies any number of pictures, in their order, with memory for a few requests only.

        Reads `images` lazily, at most `batch_size` × `max_in_flight` pictures ahead. Closing the iterator early cancels
        pending requests. Arguments and errors are those of `classify`.

        Example:
            >>> from pathlib import Path
            >>> with Client("127.0.0.1:8001") as client:
            ...     for prediction in client.classify_iter(sorted(Path("digits").iterdir()), model="mnist-cnn"):
            ...         print(prediction.source, prediction.label)
            digits/1.png 7
            digits/2.png 7
        """
        query = Query(model, version, top_k, inversion, return_seen, occlusion)
        return self._iterate(query, images, self._configuration.timeout_s_or(timeout_s))

    def models(self, name: str = "") -> list[ModelVersion]:
        """Returns the server's model versions, ready or not, by name and version.

        Args:
            name: only this model; empty: all.

        Raises:
            CallError: the call failed permanently; `NotFound` if there is no such model.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     [version.name for version in client.models() if version.is_ready]
            ['mnist-cnn']
        """
        request = pb.ListModelsRequest(name=name)
        return models.models_of(self._connections.call(LIST_MODELS, request, self._configuration.timeout_s))

    def load_model(self, name: str, *, timeout_s: float | None = None) -> None:
        """Loads or updates a model on the server; returns when it accepts requests.

        The server must run with --model-control-mode explicit. Sent once, without retries, to one of the addresses.

        Args:
            name: the model's folder in the repository.
            timeout_s: maximum seconds for loading; None: the client's.

        Raises:
            CallError: the call failed; `InvalidRequest` if the model cannot be served, with the reason, `NotFound`
                if the repository has no such folder.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     client.load_model("mnist-cnn")
        """
        request = oip.RepositoryModelLoadRequest(model_name=name)
        self._connections.call(LOAD_MODEL, request, self._configuration.timeout_s_or(timeout_s), retry=_ONCE)

    def unload_model(self, name: str, *, timeout_s: float | None = None) -> None:
        """Unloads a model from the server; returns when its accepted requests are answered. See `load_model`.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     client.unload_model("mnist-cnn")
        """
        request = oip.RepositoryModelUnloadRequest(model_name=name)
        self._connections.call(UNLOAD_MODEL, request, self._configuration.timeout_s_or(timeout_s), retry=_ONCE)

    def health(self, service: str = "") -> str:
        """Returns SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN.

        Sent once, without retries, because the current status counts. With several addresses, one of them answers.

        Args:
            service: a model's name or a gRPC service's; empty: the server as a whole.

        Raises:
            CallError: there is no answer; `Unavailable` if the server is unreachable.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     client.health(), client.health("no-such-model")
            ('SERVING', 'SERVICE_UNKNOWN')
        """
        try:
            answer = self._connections.call(CHECK, health.request(service), self._configuration.timeout_s, retry=_ONCE)
        except CallError as error:
            return health.status_of_failure(error)
        return health.status_of(answer)

    def close(self) -> None:
        """Ends pending calls with `ClosedError`, and closes the connections. May be called repeatedly.

        Example:
            >>> client = Client("127.0.0.1:8001")
            >>> client.close()
        """
        self._connections.close()
        with self._pool_lock:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _iterate(self, query: Query, images: Iterable[Picture], timeout_s: float) -> Generator[Prediction, None, None]:
        pool = self._open_pool()
        flight = Flight()
        ahead: collections.deque[Future[list[Prediction]]] = collections.deque()
        try:
            for chunk in chunks(images, query.images_of(self._configuration.batch_size)):
                ahead.append(self._submit(pool, query, chunk, timeout_s, flight))
                if len(ahead) == self._configuration.max_in_flight:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        except CancelledError as error:
            # Only closing the client cancels futures that this loop waits for.
            raise ClosedError(CLOSED) from error
        finally:
            # The loop was left, or a request failed: cancel the rest.
            for future in ahead:
                future.cancel()
            flight.end()

    def _submit(self, pool: ThreadPoolExecutor, *args: Any) -> Future[list[Prediction]]:
        try:
            return pool.submit(self._classify, *args)
        except RuntimeError as error:
            raise ClosedError(CLOSED) from error

    def _open_pool(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            self._connections.check_open()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._configuration.max_in_flight, "pixelserve-client")
            return self._pool

    def _classify(
        self, query: Query, pictures: list[Picture], timeout_s: float, flight: Flight | None = None
    ) -> list[Prediction]:
        predictions: list[Prediction] = []
        for batch in query.batches(pictures):
            predictions += self._classify_batch(batch, timeout_s, flight)
        return predictions

    def _classify_batch(self, batch: Batch, timeout_s: float, flight: Flight | None) -> list[Prediction]:
        if not batch.is_to_be_sent:
            return batch.unsent()
        try:
            answer = self._connections.call(CLASSIFY, batch.request, timeout_s, flight=flight)
        except CallError as error:
            halves = batch.halves(error)
            if not halves:
                return batch.refused(error)
            return [each for half in halves for each in self._classify_batch(half, timeout_s, flight)]
        return batch.answered(answer)
