"""The benchmarks' version swapper, against a real server."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.compare.bodies import MODEL
from benchmarks.compare.errors import ServerError
from benchmarks.compare.repositories import Swapper, repository

pytestmark = pytest.mark.slow


def test_each_swap_has_the_next_version_answer_and_leaves_no_other_behind(start_server: Callable[..., Any]) -> None:
    with repository(max_batch_size=1) as place:
        server = start_server(place, "--model-control-mode", "explicit", "--load-models", MODEL)
        with Swapper(server.grpc, place) as swapper:
            for version in (2, 3):
                asked_s, done_s = swapper.swap()
                assert asked_s < done_s
                assert swapper.version == version
        assert sorted(path.name for path in (place / MODEL).iterdir() if path.is_dir()) == ["3"]
        served = [(event["model"], event["version"]) for event in server.events() if event["event"] == "model loaded"]
        assert served == [(MODEL, version) for version in (1, 2, 3)]


def test_a_server_that_does_not_swap_is_an_error(start_server: Callable[..., Any]) -> None:
    with repository(max_batch_size=1) as place:
        server = start_server(place)
        with Swapper(server.grpc, place) as swapper, pytest.raises(ServerError, match="model-control-mode explicit"):
            swapper.swap()


def test_many_models_have_names_of_their_own(start_server: Callable[..., Any]) -> None:
    with repository(models=3, max_batch_size=1) as place:
        server = start_server(place)
        loaded = {event["model"] for event in server.events() if event["event"] == "model loaded"}
    assert loaded == {MODEL, f"{MODEL}-001", f"{MODEL}-002"}
