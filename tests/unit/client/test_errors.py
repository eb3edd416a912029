"""Every gRPC status becomes a client error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve import client
from pixelserve.client import CallError, NotNow, PixelServeClientError, RequestRefused, Retry, ServerFailed, errors

FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
OWN_CLASS = {
    grpc.StatusCode.INVALID_ARGUMENT: client.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: client.NotFound,
    grpc.StatusCode.UNAVAILABLE: client.Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: client.ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: client.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: client.Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: client.Unimplemented,
    grpc.StatusCode.INTERNAL: client.InternalError,
    grpc.StatusCode.UNAUTHENTICATED: client.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: client.PermissionDenied,
}


@pytest.mark.parametrize("code", FAILURES)
def test_every_status_becomes_an_error_with_its_facts(
    code: grpc.StatusCode, connect: Callable[..., Any], fake: Any, steps: Any
) -> None:
    fake.script.append(steps.Fail(code, "what the server says"))
    with pytest.raises(CallError) as caught:
        connect(fake.address, retry=Retry(attempts=1)).classify(b"7", model="m")
    error = caught.value
    assert (error.code, error.message, error.address) == (code, "what the server says", fake.address)
    assert isinstance(error, RequestRefused | NotNow | ServerFailed)
    assert str(error) == f"{fake.address}: {code.name}: what the server says"


@pytest.mark.parametrize("code", OWN_CLASS)
def test_what_the_server_can_answer_has_a_class_of_its_own(code: grpc.StatusCode) -> None:
    assert type(errors.error_for(code, "")) is OWN_CLASS[code]


def test_the_table_knows_all_statuses() -> None:
    assert set(errors.CLASSES) == set(FAILURES)


def test_exit_codes_say_whose_fault_it_is() -> None:
    by_kind = {RequestRefused: 4, NotNow: 5, ServerFailed: 6}
    for kind, exit_code in by_kind.items():
        assert {each.exit_code for each in errors.CLASSES.values() if issubclass(each, kind)} == {exit_code}
    assert client.SettingsError.exit_code == 2
    assert client.PictureError.exit_code == client.ClosedError.exit_code == PixelServeClientError.exit_code == 1


def test_no_server_is_unavailable_and_says_what_to_do(connect: Callable[..., Any], fake: Any) -> None:
    fake.stop()
    with pytest.raises(client.Unavailable, match="is a server running there") as caught:
        connect(fake.address, retry=Retry(attempts=1)).classify(b"7", model="m")
    assert fake.address in str(caught.value)


def test_a_call_past_its_deadline_says_what_to_do(connect: Callable[..., Any], fake: Any, steps: Any) -> None:
    fake.script.append(steps.Hold())
    with pytest.raises(client.DeadlineExceeded, match="allow more time with timeout_s"):
        connect(fake.address).classify(b"7", model="m", timeout_s=0.05)


def test_an_answer_with_too_few_results_is_the_servers_fault(connect: Callable[..., Any], fake: Any) -> None:
    from pixelserve.v1 import classifier_pb2 as pb

    fake.script.append(pb.ClassifyResponse(model="m"))
    with pytest.raises(client.InternalError, match="0 results for 1 pictures"):
        connect(fake.address).classify(b"7", model="m")


def test_every_error_class_has_its_line_in_the_guide() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "client.md").read_text()
    classes = [name for name in client.__all__ if isinstance(getattr(client, name), type)]
    ours = [name for name in classes if issubclass(getattr(client, name), PixelServeClientError)]
    assert len(ours) > 15
    assert not [name for name in ours if f"`{name}`" not in guide]
