"""Turning engines and features on and off changes no answer beyond what its precision's rule says."""

import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.card import sha256_of
from pixelserve.client import Client
from pixelserve.golden import read_golden
from pixelserve.oip import inference_pb2 as pb
from pixelserve.precisions import RULES, lowered_precision
from pixelserve_server.engine.providers.openvino import OpenVino
from pixelserve_server.repository.tuned import Engine, Machine, TunedVersion, write_tuning

METHOD = "/inference.GRPCInferenceService/ModelInfer"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("transport", ["h2corn", "grpcio"], indirect=True, scope="module"),
]
# The model's own rounding differs by as much from one batch size to another.
SAME = RULES["float32"].rows


def tuned_as(folder: Path, *engines: Engine) -> None:
    """Writes what a race on this machine would have, with these winners."""
    record = TunedVersion(
        machine=Machine.here(),
        model_sha256=sha256_of(folder / "1" / "model.onnx"),
        engines=engines,
        threads=1,
        sessions=1,
        buckets=(1, 4, 8, 16),
        batch_limit=16,
        speedup=2.0,
        created="2026-01-02T03:04:05+00:00",
    )
    write_tuning(folder / "tuning.json", 1, record.sealed())


@pytest.fixture(scope="module")
def models(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models").iterdir())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The committed models, each tuned to the least exact engine that this processor has."""
    path = tmp_path_factory.mktemp("repository") / "models"
    shutil.copytree(root / "models", path)
    precision = lowered_precision(set(OpenVino().precisions()) - {"int8"}) or "float32"
    for folder in path.iterdir():
        tuned_as(
            folder,
            Engine(engine="onnxruntime", precision="float32", from_rows=1),
            Engine(engine="openvino", precision=precision, from_rows=2),
        )
    return path


def requests_of(root: Path, model: str) -> list[bytes]:
    """Returns the golden inputs of a model, one by one and in requests of 3 and 8, which merge or do not."""
    golden = read_golden(root / "models" / model / "1" / "golden.npz")
    ((name, inputs),) = golden.inputs.items()
    parts = [inputs[start : start + rows] for rows in (1, 3, 8) for start in range(0, 16 - 16 % rows, rows)]
    messages = []
    for part in parts:
        tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype="UINT8", shape=part.shape)
        request = pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[part.tobytes()])
        messages.append(request.SerializeToString())
    return messages


def answers_of(address: str, messages: list[bytes]) -> Any:
    """Sends all requests at once; returns the rows of all answers in order."""
    with grpc.insecure_channel(address) as channel:
        infer = channel.unary_unary(METHOD, response_deserializer=pb.ModelInferResponse.FromString)
        calls = [infer.future(message, timeout=60) for message in messages]
        return np.concatenate([np.frombuffer(call.result().raw_output_contents[0], np.float32) for call in calls])


@pytest.fixture(scope="module")
def as_shipped(start_module_server: Callable[..., Any], root: Path, models: list[str]) -> dict[str, Any]:
    """The answers of a server without any setting, by model."""
    server = start_module_server(root / "models")
    return {model: answers_of(server.grpc, requests_of(root, model)) for model in models}


FEATURES = ["--no-limit-batches", "--no-run-on-arrival", "--batch-buckets=1,4,16", "--intra-op-threads=1"]


@pytest.mark.parametrize(
    ("engine", "features"),
    [("onnxruntime", FEATURES), ("openvino", FEATURES), ("auto", []), ("auto", FEATURES)],
)
def test_no_answer_changes_beyond_its_precisions_rule(
    start_module_server: Callable[..., Any],
    root: Path,
    models: list[str],
    repository: Path,
    as_shipped: dict[str, Any],
    engine: str,
    features: list[str],
) -> None:
    server = start_module_server(repository, f"--engine={engine}", *features)
    with Client(server.grpc) as client:
        described = {each.name: each for each in client.models()}
    for model in models:
        shown = described[model]
        assert shown.engine == ("onnxruntime+openvino" if engine == "auto" else engine)
        lowered = lowered_precision(shown.precision.split("+"))
        # Outputs are probabilities, whose largest magnitude is 1.
        allowed = SAME if lowered is None else RULES[lowered].output
        found = answers_of(server.grpc, requests_of(root, model))
        assert np.abs(found - as_shipped[model]).max() <= allowed, model
        # A lone image is computed by the first engine, which is the default's: to the last bits of a batch's rounding.
        if engine == "auto":
            alone = answers_of(server.grpc, requests_of(root, model)[:1])
            assert np.abs(alone - as_shipped[model][: len(alone)]).max() <= SAME, model


def test_metadata_and_metrics_say_what_computes(start_module_server: Callable[..., Any], repository: Path) -> None:
    server = start_module_server(
        repository, "--engine=auto", "--load-models=mnist-cnn", "--model-control-mode=explicit"
    )
    with Client(server.grpc) as client:
        (shown,) = [each for each in client.models("mnist-cnn") if each.is_ready]
    channel = grpc.insecure_channel(server.grpc)
    ask = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelMetadata", response_deserializer=pb.ModelMetadataResponse.FromString
    )
    properties = ask(pb.ModelMetadataRequest(name="mnist-cnn").SerializeToString(), timeout=30).properties
    channel.close()
    assert (properties["engine"], properties["precision"]) == (shown.engine, shown.precision)
    with urllib.request.urlopen(server.metrics, timeout=30) as page:
        metrics = page.read().decode().splitlines()
    (line,) = [line for line in metrics if line.startswith("pixelserve_model_info{")]
    assert f'engine="{shown.engine}"' in line
    assert f'precision="{shown.precision}"' in line
    (loaded,) = [line for line in server.events() if line["event"] == "model loaded"]
    assert (loaded["engine"], loaded["precision"]) == (shown.engine, shown.precision)
    assert loaded["openvino"]


def test_a_record_that_does_not_hold_costs_one_line_in_the_log(
    start_server: Callable[..., Any], tmp_path: Path, root: Path
) -> None:
    folder = tmp_path / "models" / "mnist-cnn"
    shutil.copytree(root / "models" / "mnist-cnn", folder)
    (folder / "tuning.json").write_text("{}")
    server = start_server(tmp_path / "models", "--engine=auto")
    with Client(server.grpc) as client:
        (shown,) = client.models("mnist-cnn")
    assert (shown.engine, shown.precision) == ("onnxruntime", "float32")
    lines = [line for line in server.events() if line["event"] == "default engine"]
    assert [line["model"] for line in lines] == ["mnist-cnn"]
    assert "no record of version 1" in str(lines[0]["reason"])
