"""What the metrics page says of calls that were really made."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.oip import inference_pb2 as pb

TIMEOUT_S = 60
NAMES = 10_000


@pytest.fixture
def server(start_server: Callable[..., Any], doubler_repository: Path) -> Any:
    return start_server(doubler_repository, "--http", "--http-port", "0", "--max-message-mib", "1")


def page(server: Any) -> str:
    with urllib.request.urlopen(server.metrics, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())


def calls(server: Any) -> dict[tuple[str, str, str], int]:
    """Returns how many calls were counted by method, code and reason."""
    found = re.findall(r"^pixelserve_requests_total\{(.*)\} (\S+)$", page(server), re.MULTILINE)
    counted = {}
    for labels, count in found:
        values = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        counted[values["method"], values["code"], values["reason"]] = int(float(count))
    return counted


def test_calls_are_counted_however_they_come_and_end(
    server: Any, make_request: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    stub = server.stub()
    stub.ModelInfer(make_request(), timeout=TIMEOUT_S)
    list(stub.ModelStreamInfer(iter([make_request(), make_request("none")]), timeout=TIMEOUT_S))
    for wrong in (make_request(model_version="new"), make_request("none")):
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(wrong, timeout=TIMEOUT_S)
    body = json.dumps({"inputs": []}).encode()
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{server.http}/v2/models/doubler/infer", body, timeout=TIMEOUT_S)
    expected = {
        ("ModelInfer", "OK", ""): 2,
        ("ModelInfer", "NOT_FOUND", "not_found"): 2,
        ("ModelInfer", "INVALID_ARGUMENT", "invalid_request"): 2,
    }
    # An answer may arrive before it is counted.
    eventually(lambda: calls(server) == expected)


@pytest.mark.slow
def test_names_that_clients_invent_become_no_labels(
    server: Any, make_request: Callable[..., Any], eventually: Callable[..., None]
) -> None:
    before = len(page(server).splitlines())

    def requests() -> Iterator[pb.ModelInferRequest]:
        for number in range(NAMES):
            yield make_request(f"invented-{number}")

    answers = list(server.stub().ModelStreamInfer(requests(), timeout=TIMEOUT_S))
    assert len(answers) == NAMES
    eventually(lambda: calls(server)["ModelInfer", "NOT_FOUND", "not_found"] == NAMES)
    assert "invented" not in page(server)
    # The line of these calls, and the one that tells when it began.
    assert len(page(server).splitlines()) - before <= 2
