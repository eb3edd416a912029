"""Errors on the wire."""

import inspect

import grpc
import pytest

from pixelserve_server import errors
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.status import CODES, CallStatus, as_triton, status_of

EXPECTED = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.AlreadyExists: StatusCode.ALREADY_EXISTS,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.RateExceeded: StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.Unloading: StatusCode.UNAVAILABLE,
    errors.QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyStreams: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: StatusCode.CANCELLED,
    errors.Unimplemented: StatusCode.UNIMPLEMENTED,
    errors.InternalError: StatusCode.INTERNAL,
}


def status(kind: type[errors.RequestError], message: str = "x") -> CallStatus:
    error = errors.RateExceeded(message, 1.5) if kind is errors.RateExceeded else kind(message)
    return status_of(error)


def test_every_request_error_has_a_code() -> None:
    concrete = {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.RequestError) and value is not errors.RequestError
    }
    assert concrete == CODES.keys() == EXPECTED.keys()


@pytest.mark.parametrize("kind", EXPECTED)
def test_an_error_becomes_its_code_and_its_message(kind: type[errors.RequestError]) -> None:
    found = status(kind, "what to do")
    assert (found.code, found.message) == (EXPECTED[kind], "what to do")


def test_only_too_much_load_and_an_exceeded_rate_tell_when_to_come_back() -> None:
    pushback = {kind: dict(status(kind).trailing).get("grpc-retry-pushback-ms") for kind in CODES}
    assert int(pushback.pop(errors.QueueFull) or 0) > 0
    assert int(pushback.pop(errors.Overloaded) or 0) > 0
    assert pushback.pop(errors.RateExceeded) == "1500"
    assert set(pushback.values()) == {None}


def test_an_exceeded_rate_tells_http_clients_in_whole_seconds() -> None:
    trailing = dict(status(errors.RateExceeded).trailing)
    assert (trailing["retry-after"], trailing["retry-pushback-ms"]) == ("2", "1500")


def test_triton_has_one_code_for_too_much_load_and_a_deadline_that_passed() -> None:
    others = {kind: code for kind, code in EXPECTED.items() if as_triton(status(kind)).code is not code}
    too_much = {errors.QueueFull, errors.Overloaded, errors.TooManyStreams, errors.RateExceeded}
    assert others.keys() == {*too_much, errors.DeadlineExceeded}
    assert {as_triton(status(kind)).code for kind in others} == {StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("letter", ["x", "ü", "€", "\N{GRINNING FACE}"])
def test_a_message_that_quotes_too_much_is_cut_between_letters(letter: str) -> None:
    message = status_of(errors.NotFound("no model " + letter * 100_000)).message
    assert message.startswith(f"no model {letter}{letter}")
    assert set(message[9:-1]) == {letter}
    # On the wire a byte above 127 takes three.
    assert len(message.encode()) * 3 < 8192


def test_a_long_message_is_not_kept() -> None:
    # A client's own words can be in it, such as a model's name of megabytes.
    first = status_of(errors.NotFound("x" * 1_000_000))
    assert first is status_of(errors.NotFound("x" * 2_000_000))
    assert len(first.message) < 3000


def test_the_codes_are_those_of_grpc() -> None:
    assert {code.name: code.value for code in StatusCode} == {code.name: code.value[0] for code in grpc.StatusCode}
