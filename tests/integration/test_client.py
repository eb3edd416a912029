"""The client against a real server on the committed models."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.client import AsyncClient, Client, InvalidRequest, NotFound, Prediction, Retry, Unavailable

MODEL = "mnist-cnn"


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.grpc) as client:
        yield client


@pytest.fixture
def digits(root: Path) -> list[Path]:
    """Pictures of the ten digits, in order."""
    return sorted((root / "examples" / "mnist").glob("digit-*.png"))


def as_array(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def as_pil(path: Path) -> Any:
    with Image.open(path) as image:
        image.load()
        return image


@pytest.mark.parametrize(
    "kind", [Path, str, Path.read_bytes, as_array, as_pil], ids=["path", "str", "bytes", "array", "PIL image"]
)
def test_every_kind_of_picture_is_recognized(kind: Callable[[Path], Any], client: Client, digits: list[Path]) -> None:
    predictions = client.classify([kind(digit) for digit in digits], model=MODEL)
    assert [prediction.label for prediction in predictions] == list("0123456789")


def test_a_picture_gives_the_same_answer_whichever_way_it_is_sent(client: Client, digits: list[Path]) -> None:
    kinds = [digits[3], digits[3].read_bytes(), as_array(digits[3]), as_pil(digits[3])]
    first, *others = [client.classify(picture, model=MODEL, top_k=10).classes for picture in kinds]
    assert len(first) == 10
    assert all(other == first for other in others)


def test_a_broken_picture_among_good_ones_has_an_error_of_its_own(client: Client, digits: list[Path]) -> None:
    good, broken, last = client.classify([digits[1], b"no picture at all", digits[2]], model=MODEL)
    assert (good.label, last.label) == ("1", "2")
    assert broken.error


def test_many_pictures_come_back_in_order(client: Client, digits: list[Path]) -> None:
    predictions = client.classify_iter((digit for _ in range(40) for digit in digits), model=MODEL)
    assert [prediction.label for prediction in predictions] == list("0123456789") * 40


def test_the_asynchronous_client_answers_the_same(server: Any, client: Client, digits: list[Path]) -> None:
    async def ask() -> list[Prediction]:
        async with AsyncClient(server.grpc) as async_client:
            assert await async_client.health() == "SERVING"
            assert await async_client.models() == client.models()
            return await async_client.classify(digits, model=MODEL)

    assert asyncio.run(ask()) == client.classify(digits, model=MODEL)


def test_a_model_that_is_not_there_is_not_found(client: Client, digits: list[Path]) -> None:
    with pytest.raises(NotFound, match="no-such-model"):
        client.classify(digits[0], model="no-such-model")
    with pytest.raises(NotFound):
        client.classify(digits[0], model=MODEL, version="99")


def test_more_pictures_than_a_request_may_hold_are_sent_in_smaller_ones(
    server: Any, digits: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with Client(server.grpc, batch_size=5000) as client:
        predictions = client.classify(digits * 500, model=MODEL)
    assert [prediction.label for prediction in predictions] == list("0123456789") * 500
    # 64 are the model's batch.
    assert "expected 1 to 64; sending at most 39" in caplog.messages[-1]


def test_pictures_of_more_pixels_than_a_request_may_have_are_sent_in_smaller_ones(
    start_server: Callable[..., Any], root: Path, digits: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    # A request may have 32 times as many: 32 digits.
    served = start_server(root / "models", "--load-models", MODEL, "--max-image-pixels", str(28 * 28))
    with Client(served.grpc, batch_size=64) as client:
        predictions = client.classify([*digits * 6, Image.new("L", (28, 28 * 3))], model=MODEL)
    assert [prediction.label for prediction in predictions[:60]] == list("0123456789") * 6
    assert f"28 × 84 = {28 * 28 * 3:,} pixels" in predictions[60].error
    assert "--max-image-pixels" in caplog.messages[0]


def test_what_the_model_saw_and_why_it_says_so(server: Any, client: Client, digits: list[Path]) -> None:
    first, second = client.classify(digits[:2], model=MODEL, return_seen=True, occlusion=4)
    for prediction in (first, second):
        assert prediction.seen is not None
        assert prediction.seen.shape == (28, 28, 1)
        assert prediction.occlusion is not None
        assert prediction.occlusion.shape == (4, 4)
    # The digits have MNIST's size and so stay as they are; a 0 needs its lower half.
    np.testing.assert_array_equal(first.seen[..., 0], as_array(digits[0]))
    assert first.occlusion is not None
    assert first.occlusion[2:].max() > 0.1
    with pytest.raises(InvalidRequest, match="occlusion is 9; expected 2 to 8 cells per side"):
        client.classify(digits[0], model=MODEL, occlusion=9)


def test_models_and_health_are_returned(client: Client) -> None:
    [version] = client.models(MODEL)
    assert version.is_ready
    assert version.takes_images
    assert version.verified
    assert version.card is not None
    assert version.outputs[0].labels == tuple("0123456789")
    assert (client.health(), client.health(MODEL), client.health("no-such-model")) == (
        "SERVING",
        "SERVING",
        "SERVICE_UNKNOWN",
    )


@pytest.mark.slow
def test_a_server_that_drains_leaves_the_other_to_answer(
    start_server: Callable[..., Any], root: Path, digits: list[Path]
) -> None:
    """1. Two servers serve. 2. One is told to stop. 3. Not one call fails. 4. With both gone, the error says so."""
    servers = [start_server(root / "models") for _ in range(2)]
    with Client([server.grpc for server in servers], retry=Retry(initial_backoff_s=0.01)) as client:
        assert client.classify(digits[7], model=MODEL).label == "7"
        assert servers[0].stop() == 0
        assert [client.classify(digits[7], model=MODEL).label for _ in range(20)] == ["7"] * 20
        assert servers[1].stop() == 0
        with pytest.raises(Unavailable, match="is a server running there"):
            client.classify(digits[7], model=MODEL)
