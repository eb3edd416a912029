"""gRPC messages and errors over HTTP."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import model_config_pb2 as config_pb
from pixelserve.scores import OUTPUT_KINDS
from pixelserve_server.api.rest import openapi
from pixelserve_server.api.rest.body import compressed
from pixelserve_server.api.rest.docs import render
from pixelserve_server.api.rest.examples import Served
from pixelserve_server.api.rest.messages import as_json
from pixelserve_server.api.rest.status import HTTP_STATUS, http_error
from pixelserve_server.api.status import CODES, status_of
from pixelserve_server.errors import QueueFull


def test_64_bit_numbers_are_numbers_and_defaults_show() -> None:
    metadata = pb.ModelMetadataResponse(name="m", properties={"b": "2", "a": "1"})
    metadata.inputs.add(name="x", datatype="FP32", shape=[-1, 2**40])
    assert as_json(metadata) == {
        "name": "m",
        "versions": [],
        "platform": "",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2**40]}],
        "outputs": [],
        "properties": {"a": "1", "b": "2"},
    }


def test_absent_messages_and_choices_do_not_show() -> None:
    assert as_json(pb.InferParameter(int64_param=7)) == {"int64_param": 7}
    assert as_json(pb.ModelConfigResponse()) == {}


def test_enums_show_by_name() -> None:
    config = config_pb.ModelConfig(name="m", max_batch_size=8)
    config.input.add(name="x", data_type=config_pb.TYPE_FP32, dims=[4])
    shown = json.loads(json.dumps(as_json(config)))
    assert (shown["max_batch_size"], shown["input"][0]["data_type"], shown["input"][0]["dims"]) == (8, "TYPE_FP32", [4])


@pytest.mark.parametrize("code", CODES.values(), ids=lambda code: code.name)
def test_every_status_of_the_core_has_one_over_http(code: object) -> None:
    assert HTTP_STATUS[code] >= 400  # type: ignore[index]


def test_a_full_queues_pushback_travels_without_grpcs_own_key() -> None:
    error = http_error(status_of(QueueFull("full")))
    assert (error.status, error.message, error.headers) == (429, "full", {"retry-pushback-ms": "20"})


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("br, deflate, gzip", "gzip"),
        ("GZIP;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip; q=0.0", None),
    ],
)
def test_an_answer_is_compressed_as_its_caller_accepts(accepted: str, encoding: str | None) -> None:
    assert asyncio.run(compressed(bytes(10_000), accepted))[1] == encoding


def references(part: Any) -> Iterator[str]:
    """Yields everything that a description refers to."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_the_description_is_whole() -> None:
    document = openapi.document("1.2")
    assert document["info"]["version"] == "1.2"
    for reference in references(document):
        found = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
    page = render(document)
    for path, methods in document["paths"].items():
        assert path in page
        for operation in methods.values():
            known = {"summary", "description", "parameters", "requestBody", "responses", "x-codeSamples"}
            assert {"summary", "description", "responses", "x-codeSamples"} <= operation.keys() <= known
            shown = {each.rpartition("/")[2] for each in references(operation.get("parameters", []))}
            assert shown == set(re.findall(r"{(\w+)}", path))
            assert operation["x-codeSamples"][0]["source"].startswith("curl ")
            assert "200" in operation["responses"]


def test_paths_of_versions_are_those_of_models() -> None:
    paths = openapi.document("1.2")["paths"]
    of_models = {path for path in paths if re.match(r"/v[12]/models/{model}", path)}
    of_versions = {path for path in of_models if "{version}" in path}
    assert {path.replace("/versions/{version}", "") for path in of_versions} == of_models - of_versions
    (sample,) = paths["/v2/models/{model}/versions/{version}/stats"]["get"]["x-codeSamples"]
    assert sample["source"] == "curl -s http://127.0.0.1:8000/v2/models/mnist-cnn/versions/1/stats"


def test_the_examples_of_a_description_name_what_is_served() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [0]}
    served = Served("https://host:1", "a%20b", "7", [tensor], 'quoted "name"')
    document = openapi.document("1.2", served)
    assert not re.search(r"<\w+>", json.dumps(document))
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert (example["inputs"], example["outputs"][0]["name"]) == ([tensor], 'quoted "name"')
    assert "https://host:1/v2/models/a%20b/infer" in operation["x-codeSamples"][0]["source"]


def test_the_description_knows_every_output_kind() -> None:
    answer = openapi.document("1.2")["components"]["schemas"]["ClassifyResponse"]
    assert answer["properties"]["output_kind"]["enum"] == list(OUTPUT_KINDS)
