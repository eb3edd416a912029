"""Retries: which errors, when, and for how long."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from pixelserve.client import (
    CallError,
    NotNow,
    ResourceExhausted,
    Retry,
    SettingsError,
    Unavailable,
)

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
NEVER = [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, UNAVAILABLE)]


@pytest.fixture
def ruled(connect: Callable[..., Any], fake: Any, fake_time: Any) -> Callable[..., Any]:
    """Makes clients whose time is the fake clock's."""

    def make(*targets: str, **kwargs: Any) -> Any:
        client = connect(list(targets) or fake.address, **kwargs)
        fake_time.rule(client)
        return client

    return make


def test_unavailable_is_tried_again_after_growing_waits(
    ruled: Callable[..., Any], fake: Any, fake_time: Any, steps: Any
) -> None:
    fake.script.extend([steps.Fail(UNAVAILABLE)] * 4)
    client = ruled(retry=Retry(attempts=5, initial_backoff_s=0.1, multiplier=3, max_backoff_s=0.5))
    assert client.classify(b"7", model="m").label == "7"
    assert fake_time.waits_s == pytest.approx([0.1, 0.3, 0.5, 0.5])


def test_attempts_come_to_an_end_and_the_error_counts_them(
    ruled: Callable[..., Any], fake: Any, fake_time: Any, steps: Any
) -> None:
    fake.script.extend([steps.Fail(UNAVAILABLE)] * 9)
    with pytest.raises(Unavailable, match=r"after 3 attempts") as caught:
        ruled(retry=Retry(attempts=3)).classify(b"7", model="m")
    assert caught.value.attempts == fake.calls == 3
    assert len(fake_time.waits_s) == 2


def test_one_attempt_is_one_attempt_for_grpc_too(ruled: Callable[..., Any], fake: Any, steps: Any) -> None:
    fake.script.append(steps.Fail(UNAVAILABLE, pushback_ms="1"))
    with pytest.raises(Unavailable):
        ruled(retry=Retry(attempts=1)).classify(b"7", model="m")
    assert fake.calls == 1


@pytest.mark.parametrize("code", NEVER)
def test_any_other_status_is_not_tried_again(
    code: grpc.StatusCode, ruled: Callable[..., Any], fake: Any, steps: Any
) -> None:
    fake.script.append(steps.Fail(code))
    with pytest.raises(CallError):
        ruled().classify(b"7", model="m")
    assert fake.calls == 1


def test_a_full_queue_is_waited_for_as_long_as_it_says(
    ruled: Callable[..., Any], fake: Any, fake_time: Any, steps: Any
) -> None:
    fake.script.append(steps.Fail(EXHAUSTED, pushback_ms="20"))
    assert ruled().classify(b"7", model="m").label == "7"
    assert fake_time.waits_s == [0.02]


def test_a_queue_that_stays_full_is_waited_for_longer_each_time(
    ruled: Callable[..., Any], fake: Any, fake_time: Any, steps: Any
) -> None:
    fake.script.extend([steps.Fail(EXHAUSTED, pushback_ms=ms) for ms in ("20", "20", "20", "900")])
    ruled(retry=Retry(attempts=5, initial_backoff_s=0.1)).classify(b"7", model="m")
    assert fake_time.waits_s == pytest.approx([0.02, 0.2, 0.4, 0.9])


@pytest.mark.parametrize("code", [UNAVAILABLE, EXHAUSTED])
@pytest.mark.parametrize("pushback_ms", ["-1", "soon", ""])
def test_a_negative_or_unreadable_pushback_means_never(
    code: grpc.StatusCode, pushback_ms: str, ruled: Callable[..., Any], fake: Any, steps: Any
) -> None:
    fake.script.append(steps.Fail(code, pushback_ms=pushback_ms))
    with pytest.raises(NotNow):
        ruled().classify(b"7", model="m")
    assert fake.calls == 1


def test_no_wait_goes_past_the_deadline(ruled: Callable[..., Any], fake: Any, fake_time: Any, steps: Any) -> None:
    fake.script.append(steps.Fail(EXHAUSTED, "the queue is full", pushback_ms="5000"))
    with pytest.raises(ResourceExhausted, match="the queue is full"):
        ruled(timeout_s=5.0).classify(b"7", model="m")
    assert not fake_time.waits_s


def test_each_attempt_has_only_the_time_that_is_left(
    ruled: Callable[..., Any], fake: Any, fake_time: Any, steps: Any
) -> None:
    fake.script.extend([steps.Fail(UNAVAILABLE, pushback_ms="40000"), steps.Fail(UNAVAILABLE, pushback_ms="50000")])
    ruled(timeout_s=100.0).classify(b"7", model="m")
    # gRPC rounds time-outs up.
    assert fake.remaining_s[0] < 101
    assert fake.remaining_s[1] < 61
    assert fake.remaining_s[2] < 11


def test_a_calls_own_timeout_takes_the_place_of_the_clients(ruled: Callable[..., Any], fake: Any) -> None:
    client = ruled(timeout_s=100.0)
    client.classify(b"7", model="m", timeout_s=50.0)
    client.classify(b"7", model="m", timeout_s=float("inf"))
    assert fake.remaining_s[0] < 51
    assert fake.remaining_s[1] > 1e6


def test_the_next_address_is_tried_at_once_and_a_full_round_is_waited_after(
    ruled: Callable[..., Any], make_server: Callable[..., Any], fake_time: Any, steps: Any
) -> None:
    # A name beside an address: gRPC has no target for the two, so they are channels of their own.
    servers = [make_server(), make_server()]
    for server in servers:
        server.script.extend([steps.Fail(UNAVAILABLE)] * 2)
    targets = [servers[0].address, servers[1].address.replace("127.0.0.1", "localhost")]
    assert ruled(*targets).classify(b"7", model="m").label == "7"
    assert fake_time.waits_s == pytest.approx([0.0, 0.1, 0.0, 0.2])


def test_listing_models_is_tried_again(ruled: Callable[..., Any], fake: Any, steps: Any) -> None:
    fake.script.append(steps.Fail(UNAVAILABLE))
    assert ruled().models()
    assert fake.calls == 2


def test_jitter_lengthens_and_shortens() -> None:
    retry = Retry(initial_backoff_s=1.0, jitter=0.5)
    assert [retry.backoff_s(1, chance) for chance in (0.0, 0.5, 1.0)] == [0.5, 1.0, 1.5]


def test_a_backoff_never_overflows() -> None:
    assert Retry(multiplier=1e6, max_backoff_s=3.0).backoff_s(10_000, 0.5) == 3.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("attempts", 0), ("initial_backoff_s", -1), ("max_backoff_s", -1), ("multiplier", 0.5), ("jitter", 1.5)],
)
def test_a_retry_out_of_range_names_its_field(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=field):
        Retry(**{field: value})  # type: ignore[arg-type]
