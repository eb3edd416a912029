"""The client for threads: a thin shell, whose decisions are those of batching and retrying."""

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
from .caller import Caller
from .channel import CHECK, CLASSIFY, LIST_MODELS, LOAD_MODEL, UNLOAD_MODEL, Configuration
from .errors import CLOSED, CallError, ClosedError
from .flight import Flight
from .limits import Retry, Tls
from .models import ModelVersion
from .pictures import Picture, is_picture
from .predictions import Prediction

_ONCE = Retry(attempts=1)


class Client:
    """Asks PixelServe servers what is on pictures.

    Any number of threads may use one client. No connection is made before the first call. Close it, or use it in a
    `with` statement: closing ends calls under way with `ClosedError`.

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
        """Makes a client.

        Args:
            target: host:port; several of them, which take turns; or a DNS name whose every address takes turns
                (`dns:///name:8001`).
            timeout_s: seconds for each request, all attempts and waits included; `math.inf`: no limit.
            retry: how often a request is tried.
            tls: encryption; None: plain text.
            token: sent as `authorization: Bearer` with every call. Over plain text only to this machine.
            token_over_plain_text: send it readable to other machines too, on a network that encrypts by itself.
            batch_size: most pictures in a request. The server's `--max-images` and the model's max_batch_size bound it.
            max_in_flight: most requests at once that this client makes for many pictures.

        Raises:
            SettingsError: an argument is no good, or a certificate cannot be read; the message names it.
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
        self._caller = Caller(self._configuration)
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
            images: a picture or several: paths, bytes of image files, PIL images, uint8 arrays [H, W] or
                [H, W, 1, 3 or 4].
            model: the model's name.
            version: its version; empty: the one that the server would choose.
            top_k: how many of the best classes to return, at least 1.
            inversion: whether dark-on-light pictures are turned: never, always, auto; None: as the model says.
            return_seen: whether predictions have the picture as the model saw it, in `seen`.
            occlusion: cells per side, 2 to 8, of a map of what the answer depends on, in `occlusion`; 0: none. The
                server computes cells × cells + 1 pictures in one batch, and each picture is a request of its own.
            timeout_s: seconds for each request, all attempts and waits included; None: the client's.

        Returns:
            A prediction for one picture, a list for several. A picture that cannot be read, here or by the server,
            has its `error` set and costs the others nothing.

        Raises:
            CallError: a request failed for good; the class says whose fault it is.
            ClosedError: the client has been closed.
            TypeError, ValueError: something is no picture; the message says what to do.

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

        Takes from `images` as predictions are taken from it: at most `batch_size` × `max_in_flight` pictures ahead.
        Leaving the loop early and closing the iterator cancels what is under way. Arguments and errors are those
        of `classify`.

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
        """Returns what the server has, ready or not, by name and version.

        Args:
            name: only this model; empty: all.

        Raises:
            CallError: the call failed for good; `NotFound` where there is no such model.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     [version.name for version in client.models() if version.is_ready]
            ['mnist-cnn']
        """
        request = pb.ListModelsRequest(name=name)
        return models.models_of(self._caller.call(LIST_MODELS, request, self._configuration.timeout_s))

    def load_model(self, name: str, *, timeout_s: float | None = None) -> None:
        """Has the server load a model, or bring it up to date; returns when it takes requests.

        The server must run with --model-control-mode explicit. Asked once, without retries, of one of the addresses.

        Args:
            name: the model's folder in the repository.
            timeout_s: seconds that loading may take; None: the client's.

        Raises:
            CallError: the call failed; `InvalidRequest` where the model cannot be served, with the reason, `NotFound`
                where the repository has no such folder.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     client.load_model("mnist-cnn")
        """
        request = oip.RepositoryModelLoadRequest(model_name=name)
        self._caller.call(LOAD_MODEL, request, self._configuration.timeout_s_or(timeout_s), retry=_ONCE)

    def unload_model(self, name: str, *, timeout_s: float | None = None) -> None:
        """Has the server unload a model; returns when it has answered what it had accepted. See `load_model`.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     client.unload_model("mnist-cnn")
        """
        request = oip.RepositoryModelUnloadRequest(model_name=name)
        self._caller.call(UNLOAD_MODEL, request, self._configuration.timeout_s_or(timeout_s), retry=_ONCE)

    def health(self, service: str = "") -> str:
        """Returns SERVING, NOT_SERVING, SERVICE_UNKNOWN or UNKNOWN.

        Asked once, without retries: how the server is now is the question. With several addresses one of them answers.

        Args:
            service: a model's name or a gRPC service's; empty: the server as a whole.

        Raises:
            CallError: there is no answer; `Unavailable` where no server is there.

        Example:
            >>> with Client("127.0.0.1:8001") as client:
            ...     client.health(), client.health("no-such-model")
            ('SERVING', 'SERVICE_UNKNOWN')
        """
        try:
            answer = self._caller.call(CHECK, health.request(service), self._configuration.timeout_s, retry=_ONCE)
        except CallError as error:
            return health.status_of_failure(error)
        return health.status_of(answer)

    def close(self) -> None:
        """Ends calls under way with `ClosedError`, and the connections. Closing twice is closing once.

        Example:
            >>> client = Client("127.0.0.1:8001")
            >>> client.close()
        """
        self._caller.close()
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
            # Only closing the client cancels what this loop still waits for.
            raise ClosedError(CLOSED) from error
        finally:
            # The loop was left, or a request failed: nobody wants the rest.
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
            self._caller.check_open()
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
            answer = self._caller.call(CLASSIFY, batch.request, timeout_s, flight=flight)
        except CallError as error:
            halves = batch.halves(error)
            if not halves:
                return batch.refused(error)
            return [each for half in halves for each in self._classify_batch(half, timeout_s, flight)]
        return batch.answered(answer)
