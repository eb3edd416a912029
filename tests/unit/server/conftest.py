"""Fixtures of the server's unit tests: calls without a transport, reconciled configurations, and real loading."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixelserve_server.api.call import Call
from pixelserve_server.api.status import CallStatus
from pixelserve_server.engine.batcher import Batcher
from pixelserve_server.engine.instance import Instance
from pixelserve_server.engine.policy import BatchingPolicy, QueuePolicy
from pixelserve_server.engine.providers import SessionOptions
from pixelserve_server.engine.request import Answer, Request
from pixelserve_server.engine.run import BatchRecord
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.engine.timer import Timer
from pixelserve_server.errors import RepositoryError, RequestError
from pixelserve_server.repository.catalogue import Catalogue
from pixelserve_server.repository.config import Defaults, ModelConfig
from pixelserve_server.repository.layout import ModelFolder, PassedOver
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Loader, Tuning
from pixelserve_server.repository.manager import RepositoryManager

# Longer than anything here takes; a test that runs into it has failed.
PATIENCE_S = 20


class RecordedCall(Call):
    """A call that keeps its answers."""

    def __init__(self, deadline_s: float | None = None, *, may_compute: bool = False) -> None:
        super().__init__(deadline_s, may_compute=may_compute)
        self.replies: list[bytes] = []
        self.failures: list[CallStatus] = []
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

    def send_status(self, status: CallStatus) -> None:
        self.failures.append(status)


@pytest.fixture(scope="session")
def recorded_call() -> Callable[..., RecordedCall]:
    """Makes calls that keep their answers."""
    return RecordedCall


@pytest.fixture
def model_config() -> Callable[..., ModelConfig]:
    """Makes a resolved configuration from inputs and outputs given as name=(datatype, shape)."""

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
def load(loader: Loader) -> Iterator[Callable[..., LoadedVersion]]:
    """Loads version 1 of a folder, with changes to the loader; drains it after the test."""
    versions: list[LoadedVersion] = []

    def load(folder: ModelFolder, **changes: Any) -> LoadedVersion:
        versions.append(replace(loader, **changes).load(folder, 1))
        return versions[-1]

    yield load
    for version in versions:
        version.batcher.drain()


@dataclass
class Told:
    """A repository manager's listener that keeps its events, each as model/version."""

    loaded: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    """The model and the reason."""
    unloaded: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    """Names of folders."""

    def on_loaded(self, loaded: LoadedVersion) -> None:
        self.loaded.append(f"{loaded.name}/{loaded.version}")

    def on_failed(self, name: str, version: int, error: RepositoryError) -> None:
        self.failed.append((name, str(error)))

    def on_passed_over(self, folder: PassedOver) -> None:
        self.passed_over.append(folder.path.name)

    def on_unloaded(self, loaded: LoadedVersion, *, replaced: bool, finished: bool) -> None:
        assert finished
        (self.replaced if replaced else self.unloaded).append(f"{loaded.name}/{loaded.version}")


@pytest.fixture
def told() -> Told:
    """A repository manager's listener."""
    return Told()


@pytest.fixture
def open_catalogue(loader: Loader) -> Iterator[Callable[[Path], SimpleNamespace]]:
    """Loads a repository; gives its catalogue, its manager, and what that told: `told`."""
    catalogues: list[Catalogue] = []

    def load(repository: Path) -> SimpleNamespace:
        catalogue, told = Catalogue(), Told()
        catalogues.append(catalogue)
        manager = RepositoryManager(repository, catalogue, loader, told, drain_s=PATIENCE_S)
        manager.load_all()
        return SimpleNamespace(catalogue=catalogue, manager=manager, told=told, loaded=told.loaded, failed=told.failed)

    yield load
    for catalogue in catalogues:
        catalogue.drain()


class HeldSession:
    """Multiplies by ten, one run per release. Several instances may share one."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        """The first column of every run's input."""
        self.threads: list[threading.Thread] = []
        """The thread of every run."""
        self.outcome: Callable[[Any], Mapping[str, Any]] = lambda x: {"y": x * 10}
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.runs.append(inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist())
        self.threads.append(threading.current_thread())
        self._entered.release()
        assert self._gate.acquire(timeout=PATIENCE_S)
        return self.outcome(inputs["x"])

    def wait_until_running(self, timeout_s: float = PATIENCE_S) -> bool:
        """Waits for one more run to begin."""
        return self._entered.acquire(timeout=timeout_s)

    def let_go(self, runs: int = 1000) -> None:
        self._gate.release(runs)


@dataclass
class Recorder:
    """Keeps a batcher's events."""

    batches: list[BatchRecord] = field(default_factory=list)
    dropped: list[RequestError] = field(default_factory=list)
    repairs: "queue.Queue[str]" = field(default_factory=queue.Queue)
    """Replaced sessions; a test that expects one removes it."""

    def on_batch(self, record: BatchRecord) -> None:
        self.batches.append(record)

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        self.dropped.append(error)

    def on_worker_restarted(self) -> None:
        self.repairs.put("a worker was restarted")

    def on_session_rebuilt(self) -> None:
        self.repairs.put("a session was rebuilt")

    def next_repair(self) -> str:
        return self.repairs.get(timeout=PATIENCE_S)


class Sent:
    """A submitted request and the answers that it got."""

    def __init__(self, request: Request, answers: "queue.Queue[Answer | RequestError]") -> None:
        self.request = request
        self.answers = answers

    @property
    def is_answered(self) -> bool:
        return not self.answers.empty()

    def answer(self) -> Answer | RequestError:
        """Waits for the answer, and takes it."""
        return self.answers.get(timeout=PATIENCE_S)

    def rows(self) -> list[int]:
        """Waits for the answer, and takes its first column."""
        answer = self.answer()
        assert isinstance(answer, Answer), answer
        return answer.outputs["y"].reshape(len(answer.outputs["y"]), -1)[:, 0].tolist()


@dataclass
class Bench:
    """A started batcher, and everything around it."""

    batcher: Batcher
    session: HeldSession
    observer: Recorder
    failures: list[BaseException]
    sent: list[Sent] = field(default_factory=list)

    def submit(self, *values: int, columns: int = 1, may_run: bool = False, **fields: Any) -> Sent:
        """Submits a request with one row for each value."""
        answers: queue.Queue[Answer | RequestError] = queue.Queue()
        x = np.repeat(np.array(values, dtype=np.int64)[:, None], columns, axis=1)
        request = Request({"x": x}, len(values), fields.pop("on_done", answers.put), **fields)
        sent = Sent(request, answers)
        self.sent.append(sent)
        try:
            self.batcher.submit(request, may_run)
        except RequestError:
            # Refused is refused: there must be no answer besides.
            assert not sent.is_answered
            raise
        return sent

    def occupy(self, runs: int = 1) -> Sent:
        """Has all instances running, so that whatever is submitted next waits; returns the last request of these."""
        for _ in range(runs):
            last = self.submit(-1)
            assert self.session.wait_until_running()
        return last

    def finish(self) -> None:
        """Lets every run go and waits until all that was accepted is answered and observed."""
        self.session.let_go()
        assert self.batcher.drain(PATIENCE_S)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Starts batchers, by policy, and drains them after the test: then no request has had two answers.

    `instances` is how many share the session, or a list of others; `queue` has further fields of the queue's policy,
    `batcher` further arguments of the batcher's.
    """
    benches: list[Bench] = []

    def start(
        max_batch_size: int = 8,
        *,
        merge: bool = True,
        max_queue_size: int = 100,
        queue: dict[str, Any] | None = None,
        instances: int | list[Instance[Any]] = 1,
        batcher: dict[str, Any] | None = None,
        is_started: bool = True,
        **policy: Any,
    ) -> Bench:
        session, observer, failures = HeldSession(), Recorder(), []
        rules = BatchingPolicy(max_batch_size, merge, QueuePolicy(max_queue_size, **queue or {}), **policy)
        if isinstance(instances, int):
            instances = [Instance(session) for _ in range(instances)]
        made = Batcher("m version 1", instances, rules, observer, failures.append, **batcher or {})
        if is_started:
            made.start()
        benches.append(Bench(made, session, observer, failures))
        return benches[-1]

    yield start
    for each in benches:
        each.finish()
        assert each.batcher.waiting == 0
        assert each.observer.repairs.empty()
        # Items that a test has taken are gone; duplicates are not allowed.
        assert all(sent.answers.qsize() <= 1 for sent in each.sent)


@pytest.fixture
def held_session() -> Callable[[], HeldSession]:
    """Makes sessions that block until released."""
    return HeldSession


@pytest.fixture
def timer() -> Iterator[Timer]:
    """A running timer whose functions must not fail."""
    failures: list[BaseException] = []
    timer = Timer(failures.append)
    timer.start()
    yield timer
    timer.close()
    assert failures == []
