"""RepositoryIndex reports each version's state; only its caller waits for the disk."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.dispatch import CallGuard
from pixelserve_server.api.repository_index import RepositoryIndex
from pixelserve_server.errors import Unimplemented
from pixelserve_server.repository.catalogue import State, VersionState

PATIENCE_S = 20
STATES = [
    VersionState("a", "1", State.READY),
    VersionState("a", "2", State.UNAVAILABLE, "damaged"),
    VersionState("b", "", State.UNAVAILABLE, "no version"),
    VersionState("b", "3", State.READY, "the files on disk cannot be loaded"),
]
CATALOGUE: Any = SimpleNamespace(index=lambda: STATES)


class Waited:
    """A call that says when it was answered."""

    def __init__(self, call: Any) -> None:
        self.call, self.answered = call, threading.Event()
        send, send_status = call.send, call.send_status
        call.send = lambda message: (send(message), self.answered.set())
        call.send_status = lambda status: (send_status(status), self.answered.set())

    def index(self) -> list[tuple[str, str, str, str]]:
        assert self.answered.wait(PATIENCE_S)
        (reply,) = self.call.replies
        models = pb.RepositoryIndexResponse.FromString(reply).models
        return [(each.name, each.version, each.state, each.reason) for each in models]


def test_a_ready_version_whose_files_have_changed_says_so(recorded_call: Callable[..., Any]) -> None:
    index = RepositoryIndex(CATALOGUE, lambda: {("a", 1), ("a", 2), ("b", 3)}, CallGuard(str))
    asked = Waited(recorded_call())
    index(b"", asked.call)
    changed = "serves what was loaded before; the files on disk have changed since"
    assert asked.index() == [
        ("a", "1", "READY", changed),
        ("a", "2", "UNAVAILABLE", "damaged"),
        ("b", "", "UNAVAILABLE", "no version"),
        ("b", "3", "READY", "the files on disk cannot be loaded"),
    ]
    index.close()


def test_a_disk_that_hangs_affects_only_its_caller(recorded_call: Callable[..., Any]) -> None:
    """1. the disk hangs; 2. two calls come, and their threads go on; 3. it answers, and so do both calls."""
    released = threading.Event()

    def changed() -> set[tuple[str, int]]:
        assert released.wait(PATIENCE_S)
        return set()

    index = RepositoryIndex(CATALOGUE, changed, CallGuard(str))
    asked = [Waited(recorded_call()), Waited(recorded_call())]
    for each in asked:
        index(pb.RepositoryIndexRequest(ready=True).SerializeToString(), each.call)
    assert [each.call.replies for each in asked] == [[], []]
    released.set()
    for each in asked:
        assert [(model, version) for model, version, _, _ in each.index()] == [("a", "1"), ("b", "3")]
    index.close()


def test_what_the_look_raises_is_answered(recorded_call: Callable[..., Any]) -> None:
    logged: list[BaseException] = []

    def changed() -> set[tuple[str, int]]:
        raise RuntimeError("surprise")

    index = RepositoryIndex(CATALOGUE, changed, CallGuard(lambda error: str(logged.append(error))))
    asked = Waited(recorded_call())
    index(b"", asked.call)
    assert asked.answered.wait(PATIENCE_S)
    (status,) = asked.call.failures
    assert (status.code.name, [str(error) for error in logged]) == ("INTERNAL", ["surprise"])
    index.close()


def test_a_repository_that_is_named_is_refused_at_once(recorded_call: Callable[..., Any]) -> None:
    index = RepositoryIndex(CATALOGUE, set, CallGuard(str))
    with pytest.raises(Unimplemented, match="this server has one repository"):
        index(pb.RepositoryIndexRequest(repository_name="r").SerializeToString(), recorded_call())
    index.close()
