"""The public Triton client, in its own process and environment, against the server."""

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

SCRIPT = Path(__file__).with_name("triton_client_script.py")
MEMORY_SCRIPT = Path(__file__).with_name("triton_shared_memory_script.py")


@pytest.fixture(scope="module")
def pictures(root: Path) -> dict[str, Any]:
    """The committed pictures: `images` uint8 [N, 28, 28, 1] and `labels` [N]."""
    paths = sorted((root / "examples" / "mnist").glob("*.png"))
    assert len(paths) == 10
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
    return {"images": images, "labels": [int(path.stem.split("-")[1]) for path in paths]}


def run(script: Path, server: Any, pictures: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a script in the client's environment and returns its output."""
    python = Path(sys.prefix) / "tritonclient" / "bin" / "python"
    assert python.exists(), f"there is no {python}; run `make test`, which makes it"
    file = folder / "images.npz"
    np.savez(file, images=pictures["images"])
    # -I: neither the working directory nor the environment leads the client to our code.
    done = subprocess.run([python, "-I", script, server.grpc, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def answer(server: Any, pictures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The client's results."""
    return run(SCRIPT, server, pictures, tmp_path_factory.mktemp("pictures"))


def test_none_of_our_code_is_in_the_clients_process(answer: dict[str, Any]) -> None:
    assert answer["own_modules"] == []


def test_it_sees_a_live_and_ready_server_and_model(answer: dict[str, Any]) -> None:
    assert (answer["live"], answer["ready"], answer["model_ready"]) == (True, True, True)
    assert answer["server"]["name"] == "pixelserve"


def test_it_gets_the_models_metadata(answer: dict[str, Any]) -> None:
    metadata = answer["metadata"]
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "28", "28", "1"]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": ["-1", "10"]}]


def test_it_classifies_every_picture_right(answer: dict[str, Any], pictures: dict[str, Any]) -> None:
    assert (answer["shape"], answer["dtype"]) == ([10, 10], "float32")
    assert answer["labels"] == pictures["labels"]
    assert (answer["id"], answer["version"]) == ("whole", "1")


def test_it_gets_labels_by_the_classification_extension(answer: dict[str, Any], pictures: dict[str, Any]) -> None:
    values, indices, labels = zip(*(element.split(":") for element in answer["top"]), strict=True)
    assert len(labels) == 3
    assert (indices[0], labels[0]) == (str(pictures["labels"][0]),) * 2
    assert sorted(map(float, values), reverse=True) == list(map(float, values))


def test_it_understands_a_refusal(answer: dict[str, Any]) -> None:
    assert answer["refusal"] == "StatusCode.INVALID_ARGUMENT"


def test_it_gets_the_configuration_and_the_index(answer: dict[str, Any]) -> None:
    assert answer["config"]["max_batch_size"] == 64
    assert "dynamic_batching" in answer["config"]
    assert {"name": "mnist-cnn", "version": "1", "state": "READY"} in answer["index"]


def test_it_changes_the_log_level_and_sees_that_nothing_is_traced(answer: dict[str, Any]) -> None:
    assert [answer[when]["log_info"] for when in ("quiet", "loud")] == [{"bool_param": False}, {"bool_param": True}]
    assert answer["tracing"]["trace_level"] == {"value": ["OFF"]}


def test_its_stream_answers_in_order_and_outlives_an_error(answer: dict[str, Any], pictures: dict[str, Any]) -> None:
    *good, wrong = answer["stream"]
    assert good == [[str(number), label, True, None] for number, label in enumerate(pictures["labels"])]
    assert 'NOT_FOUND: there is no model "none"' in wrong[3]


def test_it_gets_the_statistics_of_one_version_and_of_all(answer: dict[str, Any]) -> None:
    assert "statistics" in answer["server"]["extensions"]
    (one,) = answer["statistics"]["model_stats"]
    assert (one["name"], one["version"]) == ("mnist-cnn", "1")
    # The requests of ten images and of one; other tests may have sent more, and the last may not be counted yet.
    assert int(one["inference_count"]) >= 10
    assert int(one["inference_stats"]["success"]["count"]) >= 1
    assert {"1", "8", "64"} <= {each["batch_size"] for each in one["batch_stats"]}
    everything = answer["statistics_of_all"]["model_stats"]
    assert ("mnist-cnn", "1") in [(each["name"], each["version"]) for each in everything]


def test_it_passes_pictures_and_probabilities_through_shared_memory(
    start_server: Callable[..., Any], root: Path, pictures: dict[str, Any], tmp_path: Path
) -> None:
    server = start_server(root / "models", "--system-shared-memory")
    found = run(MEMORY_SCRIPT, server, pictures, tmp_path)
    assert found["labels"] == pictures["labels"]
    assert found["shape"] == [10, 10]
    assert found["parameters"] == ["shared_memory_byte_size", "shared_memory_offset", "shared_memory_region"]
    assert (list(found["status"]), found["after"]) == (["pictures"], {})
