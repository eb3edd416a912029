"""Every public method of the public Triton client's four clients, against the server."""

import functools
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

SCRIPT = Path(__file__).with_name("triton_methods_script.py")
LOG_AND_TRACES = {"get_log_settings", "update_log_settings", "get_trace_settings", "update_trace_settings"}
# What docs/protocol.md and docs/rest.md say is not served: all else must be answered.
UNIMPLEMENTED = "StatusCode.UNIMPLEMENTED"
NOT_OVER_GRPC = {"register_cuda_shared_memory": UNIMPLEMENTED, "update_trace_settings": UNIMPLEMENTED}
NOT_OVER_HTTP = {"register_cuda_shared_memory": "501", **dict.fromkeys(LOG_AND_TRACES, "404")}
GRPC, HTTP = ("grpc", "grpc.aio"), ("http", "http.aio")
with_each = pytest.mark.parametrize("client", GRPC + HTTP)


@pytest.fixture(scope="module")
def digits(root: Path) -> dict[str, Any]:
    """The committed pictures: `images` uint8 [N, 28, 28, 1] and `labels` [N]."""
    paths = sorted((root / "examples" / "mnist").glob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])[..., None]
    return {"images": images, "labels": [int(path.stem.split("-")[1]) for path in paths]}


@pytest.fixture(scope="module")
def obliging_server(start_module_server: Callable[..., Any], root: Path) -> Any:
    """A server that loads models for clients and takes their shared memory."""
    options = ("--model-control-mode", "explicit", "--load-models", "mnist-cnn", "--system-shared-memory")
    return start_module_server(root / "models", *options)


@pytest.fixture(scope="module")
def found(obliging_server: Any, digits: dict[str, Any], tmp_path_factory: Any) -> Callable[[str], dict[str, Any]]:
    """Runs the script with a client, once, and returns its output."""
    python = Path(sys.prefix) / "tritonclient" / "bin" / "python"
    assert python.exists(), f"there is no {python}; run `make test`, which makes it"
    file = tmp_path_factory.mktemp("pictures") / "images.npz"
    np.savez(file, images=digits["images"])

    @functools.cache
    def run(client: str) -> dict[str, Any]:
        address = obliging_server.grpc if client in GRPC else obliging_server.http.removeprefix("http://")
        # -I: neither the working directory nor the environment leads the client to our code.
        done = subprocess.run([python, "-I", SCRIPT, client, address, file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert [event for event in obliging_server.events() if event["level"] == "error"] == []
        return dict(json.loads(done.stdout))

    return run


@pytest.fixture
def answers(found: Callable[[str], dict[str, Any]], client: str) -> dict[str, list[Any]]:
    """What each call of the test's client gave, by method and in order."""
    return dict(found(client)["answers"])


@with_each
def test_every_public_method_is_called_by_a_process_without_our_code(
    found: Callable[[str], dict[str, Any]], client: str
) -> None:
    printed = found(client)
    assert set(printed["answers"]) == set(printed["methods"])
    assert len(printed["methods"]) > 20
    assert printed["own_modules"] == []


@with_each
def test_what_is_refused_is_what_the_docs_say_is_not_served(answers: dict[str, list[Any]], client: str) -> None:
    statuses = {
        method: {each["refused"][0] for each in given if isinstance(each, dict) and "refused" in each}
        for method, given in answers.items()
    }
    expected = NOT_OVER_GRPC if client in GRPC else NOT_OVER_HTTP
    refused = {method: said for method, said in statuses.items() if said}
    assert refused == {method: {status} for method, status in expected.items()}


@with_each
def test_it_sees_health_and_metadata(answers: dict[str, list[Any]], client: str) -> None:
    # The later ones are asked with a plugin and after it.
    assert answers["is_server_live"] == [True] * 3
    assert answers["is_server_ready"] == [True]
    assert answers["get_server_metadata"][0]["name"] == "pixelserve"
    (metadata,) = answers["get_model_metadata"]
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("mnist-cnn", ["1"], "onnxruntime_onnx")
    (config,) = answers["get_model_config"]
    assert (config["config"] if client in GRPC else config)["max_batch_size"] == 64


@with_each
def test_it_has_a_model_loaded_sees_it_listed_and_has_it_unloaded(answers: dict[str, list[Any]], client: str) -> None:
    assert answers["is_model_ready"] == [False, True, False]
    assert (answers["load_model"], answers["unload_model"]) == ([None], [None])
    (index,) = answers["get_model_repository_index"]
    entries = index["models"] if client in GRPC else index
    assert [each["name"] for each in entries if each["state"] == "READY"] == ["fashion-mnist", "mnist-cnn"]


@with_each
def test_it_computes(answers: dict[str, list[Any]], client: str, digits: dict[str, Any]) -> None:
    # The second one's pictures are in shared memory.
    assert answers["infer"] == [digits["labels"]] * 2
    (statistics,) = answers["get_inference_statistics"]
    (one,) = statistics["model_stats"]
    assert (one["name"], one["version"]) == ("mnist-cnn", "1")
    assert int(one["inference_count"]) >= len(digits["labels"])


@pytest.mark.parametrize("client", ["grpc", "http"])
def test_it_computes_in_the_background(answers: dict[str, list[Any]], digits: dict[str, Any]) -> None:
    assert answers["async_infer"] == [digits["labels"]]


@pytest.mark.parametrize(("client", "method"), [("grpc", "async_stream_infer"), ("grpc.aio", "stream_infer")])
def test_its_stream_answers_in_order_and_outlives_an_error(
    answers: dict[str, list[Any]], method: str, digits: dict[str, Any]
) -> None:
    *good, wrong = answers[method][0]
    assert good == [[str(number), label] for number, label in enumerate(digits["labels"])]
    assert 'NOT_FOUND: there is no model "none"' in wrong[1]


@pytest.mark.parametrize("client", HTTP)
def test_it_writes_a_body_and_reads_an_answer_that_something_else_carries(
    answers: dict[str, list[Any]], digits: dict[str, Any]
) -> None:
    assert answers["parse_response_body"] == [["carried", digits["labels"]]]


@pytest.mark.parametrize("client", GRPC)
def test_it_changes_the_log_level_and_sees_that_nothing_is_traced(answers: dict[str, list[Any]]) -> None:
    levels = [each["settings"]["log_verbose_level"] for each in answers["update_log_settings"]]
    assert levels == [{"uint32_param": 1}, {"uint32_param": 0}]
    assert answers["get_log_settings"][0]["settings"]["log_info"] == {"bool_param": True}
    assert answers["get_trace_settings"][0]["settings"]["trace_level"] == {"value": ["OFF"]}


@with_each
def test_its_shared_memory_is_registered_and_forgotten(answers: dict[str, list[Any]], client: str) -> None:
    before, after = answers["get_system_shared_memory_status"]
    if client in GRPC:
        before, after = list(before.get("regions", {}).values()), list(after.get("regions", {}).values())
    assert [region["name"] for region in before] == ["pictures"]
    assert after == []


@with_each
def test_its_plugin_sees_the_requests_headers(answers: dict[str, list[Any]]) -> None:
    assert answers["plugin"] == [True, [True]]
