"""KServe's public Python client, in its own process and environment, against the server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("kserve_client_script.py")
over_both = pytest.mark.parametrize("protocol", ["grpc", "http"])


@pytest.fixture(scope="module")
def digits(root: Path) -> dict[str, Any]:
    """The committed pictures: `images` uint8 [N, 28, 28, 1] and `labels` [N]."""
    paths = sorted((root / "examples" / "mnist").glob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
    return {"images": images, "labels": [int(path.stem.split("-")[1]) for path in paths]}


@pytest.fixture(scope="module")
def answer(server: Any, digits: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The client's results, by protocol."""
    python = Path(sys.prefix) / "kserve" / "bin" / "python"
    assert python.exists(), f"there is no {python}; run `make test`, which makes it"
    file = tmp_path_factory.mktemp("pictures") / "images.npz"
    np.savez(file, images=digits["images"])
    # -I: neither the working directory nor the environment leads the client to our code. It imports for seconds.
    command = [python, "-I", SCRIPT, server.grpc, server.http, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_none_of_our_code_is_in_the_clients_process(answer: dict[str, Any]) -> None:
    assert answer["own_modules"] == []


@over_both
def test_it_sees_what_is_live_and_ready(answer: dict[str, Any], protocol: str) -> None:
    assert answer[protocol]["health"] == [True, True, True, False]


@over_both
@pytest.mark.parametrize("sent_as", ["bytes", "numbers"])
def test_it_gets_a_prediction(answer: dict[str, Any], digits: dict[str, Any], protocol: str, sent_as: str) -> None:
    assert answer[protocol][sent_as] == {
        "id": "whole",
        "output": ["probabilities", "FP32"],
        "shape": [10, 10],
        "labels": digits["labels"],
    }


@pytest.mark.parametrize(("protocol", "statuses"), [("grpc", ["INVALID_ARGUMENT", "NOT_FOUND"]), ("http", [400, 404])])
def test_it_understands_refusals(answer: dict[str, Any], protocol: str, statuses: list[Any]) -> None:
    wrong, unknown = answer[protocol]["refusals"]
    assert [wrong[0], unknown[0]] == statuses
    assert "expected [-1, 28, 28, 1]" in wrong[1]
    assert 'no model "none"' in unknown[1]
