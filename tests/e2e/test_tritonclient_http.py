"""The public Triton client over HTTP, in its own process and environment, against the server."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("triton_http_script.py")


@pytest.fixture(scope="module")
def digits(root: Path) -> dict[str, Any]:
    """The committed pictures: `images` uint8 [N, 28, 28, 1] and `labels` [N]."""
    paths = sorted((root / "examples" / "mnist").glob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
    return {"images": images, "labels": [int(path.stem.split("-")[1]) for path in paths]}


@pytest.fixture(scope="module")
def answer(
    start_module_server: Callable[..., Any], root: Path, digits: dict[str, Any], tmp_path_factory: Any
) -> dict[str, Any]:
    """The client's results."""
    python = Path(sys.prefix) / "tritonclient" / "bin" / "python"
    assert python.exists(), f"there is no {python}; run `make test`, which makes it"
    server = start_module_server(root / "models")
    file = tmp_path_factory.mktemp("pictures") / "images.npz"
    np.savez(file, images=digits["images"])
    # -I: neither the working directory nor the environment leads the client to our code.
    command = [python, "-I", SCRIPT, server.http.removeprefix("http://"), file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [event for event in server.events() if event["level"] == "error"] == []
    return dict(json.loads(done.stdout))


def test_none_of_our_code_is_in_the_clients_process(answer: dict[str, Any]) -> None:
    assert answer["own_modules"] == []


def test_it_sees_a_live_and_ready_server_and_model(answer: dict[str, Any]) -> None:
    assert (answer["live"], answer["ready"], answer["model_ready"]) == (True, True, [True, False])


def test_it_gets_metadata(answer: dict[str, Any]) -> None:
    assert answer["server"]["name"] == "pixelserve"
    assert "binary_tensor_data" in answer["server"]["extensions"]
    assert answer["metadata"]["versions"] == ["1"]
    assert answer["metadata"]["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28, 1]}]


def test_it_classifies_every_picture_right_in_every_form(answer: dict[str, Any], digits: dict[str, Any]) -> None:
    assert (answer["id"], answer["version"], answer["dtype"]) == ("whole", "1", "float32")
    assert answer["labels"] == digits["labels"]
    assert answer["labels_as_json"] == digits["labels"][:2]
    assert answer["labels_packed"] == {"gzip": digits["labels"], "deflate": digits["labels"]}


def test_it_may_have_several_requests_in_flight(answer: dict[str, Any], digits: dict[str, Any]) -> None:
    assert answer["labels_at_once"] == [digits["labels"]] * 5
    assert answer["asynchronous"] == {"labels": [digits["labels"]] * 5, "metadata": "mnist-cnn"}


def test_it_gets_labels_by_the_classification_extension(answer: dict[str, Any], digits: dict[str, Any]) -> None:
    binary, as_json = answer["top"]
    assert binary == as_json
    _, indices, labels = zip(*(element.split(":") for element in binary), strict=True)
    assert len(labels) == 3
    assert (indices[0], labels[0]) == (str(digits["labels"][0]),) * 2


def test_it_understands_refusals(answer: dict[str, Any]) -> None:
    status, message = answer["refusal"]
    assert (status, "expected [-1, 28, 28, 1]" in message) == ("400", True)
    status, message = answer["unknown"]
    assert (status, 'no model "none"' in message) == ("404", True)


def test_it_gets_statistics(answer: dict[str, Any]) -> None:
    (one,) = answer["statistics"]["model_stats"]
    assert (one["name"], one["version"]) == ("mnist-cnn", "1")
    assert one["inference_count"] >= 10
    everything = answer["statistics_of_all"]["model_stats"]
    assert ("mnist-cnn", "1") in [(each["name"], each["version"]) for each in everything]
