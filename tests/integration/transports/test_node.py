"""gRPC's own client for Node, which shares no code with grpcio's, gets the same from every transport."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("security", ["plain", "tls", "mtls"], indirect=True),
]

SCRIPT = Path(__file__).with_name("node_client.js")


@pytest.fixture(scope="module")
def answer(served: Any, root: Path) -> dict[str, Any]:
    """The client's results."""
    node, packages = shutil.which("node"), Path(sys.prefix) / "node" / "node_modules"
    assert node is not None, "there is no node (Debian: apt install nodejs npm)"
    assert packages.is_dir(), f"there is no {packages}; run `make test`, which makes it"
    security = served.security
    options = {
        "address": served.process.grpc,
        "protos": str(root / "proto"),
        "token": security.token,
        **{name: str(path) for name in ("ca", "cert", "key") if (path := getattr(security, name)) is not None},
    }
    done = subprocess.run(
        [node, SCRIPT, json.dumps(options)],
        env={**os.environ, "NODE_PATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_it_gets_an_answer(answer: dict[str, Any]) -> None:
    assert answer["unary"] is True


def test_of_two_thousand_calls_at_once_on_one_channel_each_gets_its_answer(answer: dict[str, Any]) -> None:
    assert answer["many"] == {"right": 2000}


def test_a_stream_answers_in_order(answer: dict[str, Any]) -> None:
    wrong = answer["stream"].pop(50)
    assert wrong.startswith("NOT_FOUND: there is no model")
    assert answer["stream"] == [True] * 99


def test_a_deadline_that_passes_and_a_call_that_is_cancelled(
    answer: dict[str, Any], served: Any, eventually: Any
) -> None:
    assert (answer["deadline"], answer["cancel"]) == ("DEADLINE_EXCEEDED", "CANCELLED")
    eventually(lambda: served.pending("roomy") == 0)


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_compressed_requests_are_unpacked_up_to_the_limit(answer: dict[str, Any], kind: str) -> None:
    assert answer[kind] == [True, "RESOURCE_EXHAUSTED"]


def test_a_refusals_message_has_every_character(answer: dict[str, Any]) -> None:
    code, details = answer["refusal"]
    assert (code, details.startswith('there is no model "kühe ☃"')) == ("NOT_FOUND", True)


def test_its_connection_is_as_good_afterwards(answer: dict[str, Any]) -> None:
    assert answer["after"] is True
