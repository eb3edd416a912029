"""What the server's unit tests share: calls without a transport, settled configurations, and loading for real."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.api.call import Call
from pixelserve_server.api.status import Status
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.repository.catalogue import Catalogue
from pixelserve_server.repository.config import Defaults, ModelConfig
from pixelserve_server.repository.loader import Loader, Tuning


class RecordedCall(Call):
    """A call that keeps what it is answered with."""

    def __init__(self, deadline_s: float | None = None, *, may_compute: bool = False) -> None:
        super().__init__(deadline_s, may_compute=may_compute)
        self.replies: list[bytes] = []
        self.failures: list[Status] = []
        self.leave: Callable[[], None] = lambda: None
        """Has the caller leave."""
        self._is_answered = False

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self.leave = callback

    def claim(self) -> bool:
        is_first, self._is_answered = not self._is_answered, True
        return is_first

    def send(self, message: bytes) -> None:
        self.replies.append(message)

    def send_status(self, status: Status) -> None:
        self.failures.append(status)


@pytest.fixture
def recorded_call() -> Callable[..., RecordedCall]:
    """Makes calls that keep what they are answered with."""
    return RecordedCall


@pytest.fixture
def model_config() -> Callable[..., ModelConfig]:
    """Makes a settled configuration from inputs and outputs given as name=(datatype, shape)."""

    def make(
        max_batch_size: int = 8, outputs: dict[str, Any] | None = None, **inputs: tuple[str, tuple[int, ...]]
    ) -> ModelConfig:
        policy = BatchingPolicy(max_batch_size, max_batch_size > 0, QueuePolicy(16))
        outputs = outputs or {"y": ("FP32", (FREE, 2))}
        specs = [
            tuple(TensorSpec(name, BY_NAME[datatype], shape) for name, (datatype, shape) in tensors.items())
            for tensors in (inputs, outputs)
        ]
        return ModelConfig("m", policy, *specs)

    return make


class NullObserver:
    """Observes a batcher and does nothing about it."""

    def on_batch(self, record: Any) -> None:
        pass

    def on_dropped(self, error: Any, waited_ns: int) -> None:
        pass

    def on_worker_restarted(self) -> None:
        pass

    def on_session_rebuilt(self) -> None:
        pass


@pytest.fixture
def loader() -> Loader:
    """Loads on the CPU with one thread, and fails the test where a session raises."""

    def fail(error: BaseException) -> None:
        raise AssertionError("a session raised") from error

    return Loader(
        session_options=SessionOptions(device="cpu", intra_op_threads=1),
        defaults=Defaults(max_batch_size=64, max_queue_size=16),
        tuning=Tuning(),
        require_card=False,
        observer=lambda model, version: NullObserver(),
        log_failure=fail,
    )


@pytest.fixture
def open_catalogue(loader: Loader) -> Iterator[Callable[[Path], SimpleNamespace]]:
    """Loads a repository; gives its catalogue and what it told: `loaded` and `failed`, by model."""
    catalogues: list[Catalogue] = []

    def load(repository: Path) -> SimpleNamespace:
        catalogue = Catalogue(repository, loader)
        catalogues.append(catalogue)
        loaded: list[str] = []
        failed: list[tuple[str, str]] = []
        catalogue.load_all(
            on_loaded=lambda each: loaded.append(f"{each.name}/{each.version}"),
            on_failed=lambda model, error: failed.append((model, str(error))),
        )
        return SimpleNamespace(catalogue=catalogue, loaded=loaded, failed=failed)

    yield load
    for catalogue in catalogues:
        catalogue.drain()
