"""`pixelserve bench` against a local server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.oip import inference_pb2
from pixelserve.v1 import classifier_pb2 as pb

SHORT = ("--model", "digits", "--requests", 20, "--warmup-s", 0, "--concurrency", 4)


def test_json_says_everything_in_milliseconds(ask: Callable[..., Any]) -> None:
    ran = ask("bench", *SHORT, "--batch", 3, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert found["model"] == "digits"
    assert found["method"] == "/pixelserve.v1.Classifier/Classify"
    assert found["load"] == "4 in flight"
    assert (found["requests"], found["answered"], found["errors"]) == (20, 20, {})
    assert found["images_per_s"] == pytest.approx(3 * found["requests_per_s"], rel=1e-3)
    assert list(found["latency_ms"]) == ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"]
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["max"]
    assert sum(count for _, count in found["histogram_ms"]) == 20


def test_the_report_for_people_has_rates_percentiles_and_a_histogram(ask: Callable[..., Any]) -> None:
    ran = ask("bench", *SHORT)
    assert ran.code == 0
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0] == "digits version 1, /pixelserve.v1.Classifier/Classify, 1 image per request, 4 in flight"
    assert lines[1].startswith("20 of 20 requests answered in ")
    names = [line.split()[0] for line in lines[3:10]]
    assert names == ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"]
    assert "█" in ran.out


def test_made_up_pixels_fit_the_models_input(ask: Callable[..., Any], fake: Any) -> None:
    assert ask("bench", *SHORT, "--batch", 2).code == 0
    request = fake.requests[0]
    assert isinstance(request, pb.ClassifyRequest)
    assert [(one.raw.height, one.raw.width, one.raw.channels) for one in request.images] == [(2, 3, 1)] * 2
    assert all(len(one.raw.data) == 6 for one in request.images)


def test_made_up_pixels_have_the_declared_size_and_colour(ask: Callable[..., Any], fake: Any) -> None:
    version = fake.versions[0]
    version.inputs[0].CopyFrom(pb.Tensor(name="pixels", datatype="FP32", shape=[-1, 3, -1, -1]))
    version.picture = "vit size=5x7"
    assert ask("bench", *SHORT, "--batch", 2).code == 0
    (first, second) = fake.requests[0].images
    assert (first.raw.height, first.raw.width, first.raw.channels, len(second.raw.data)) == (5, 7, 3, 105)
    fake.requests.clear()
    assert ask("bench", *SHORT, "--batch", 2, "--method", "infer").code == 0
    assert list(fake.requests[0].inputs[0].shape) == [2, 3, 5, 7]
    fake.requests.clear()
    assert ask("bench", *SHORT, "--batch", 2, "--method", "infer", "--shape", "pixels:2,3,9,9").code == 0
    assert list(fake.requests[0].inputs[0].shape) == [2, 3, 9, 9]


def test_a_declaration_of_a_later_release_is_said(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].picture = "fit=seamless"
    ran = ask("bench", *SHORT)
    assert ran.code == 2
    assert "digits takes pictures as 'fit=seamless': fit=seamless: expected one of letterbox" in ran.err


def test_infer_sends_raw_tensors_of_the_models_signature(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].inputs.append(pb.Tensor(name="bias", datatype="FP32", shape=[-1, 5]))
    assert ask("bench", *SHORT, "--batch", 2, "--method", "infer").code == 0
    request = fake.requests[0]
    assert isinstance(request, inference_pb2.ModelInferRequest)
    assert (request.model_name, request.model_version) == ("digits", "1")
    assert [(one.name, one.datatype, list(one.shape)) for one in request.inputs] == [
        ("image", "UINT8", [2, 2, 3, 1]),
        ("bias", "FP32", [2, 5]),
    ]
    assert [len(raw) for raw in request.raw_input_contents] == [12, 40]


@pytest.fixture
def text_lines(fake: Any) -> pb.ModelVersion:
    """The fake's model, made one that reads lines of text of any width."""
    version: pb.ModelVersion = fake.versions[0]
    version.takes_images = False
    version.inputs[0].CopyFrom(pb.Tensor(name="line:0", datatype="FP32", shape=[-1, 3, 48, -1]))
    return version


@pytest.mark.usefixtures("text_lines")
def test_a_free_dimension_is_chosen_by_shape(ask: Callable[..., Any], fake: Any) -> None:
    assert ask("bench", *SHORT, "--batch", 2, "--shape", "line:0:2,3,48,32").code == 0
    assert list(fake.requests[0].inputs[0].shape) == [2, 3, 48, 32]
    assert len(fake.requests[0].raw_input_contents[0]) == 2 * 3 * 48 * 32 * 4


@pytest.mark.usefixtures("text_lines")
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([], "leaves dimensions of line:0 free; say which sizes to send, such as --shape line:0:1,3,48,SIZE"),
        (["line:0:1,3,40,32"], "does not fit: digits takes [1, 3, 48, any], the first of which is --batch"),
        (["line:0:1,48,32"], "does not fit"),
        (["line:0:2,3,48,32"], "the first of which is --batch"),
        (["line:0:1,3,48,999999999"], "are too many; choose smaller sizes"),
        (["other:1,2"], "--shape other: digits has no such input; it has line:0"),
        (["line:0:1,3,48,-1"], "expected INPUT:SIZE,SIZE"),
        (["48,32"], "expected INPUT:SIZE,SIZE"),
    ],
)
def test_a_shape_that_cannot_be_sent_is_refused_before_anything_is(
    ask: Callable[..., Any], fake: Any, shape: list[str], said: str
) -> None:
    ran = ask("bench", *SHORT, *(part for one in shape for part in ("--shape", one)))
    assert ran.code == 2
    assert said in " ".join(ran.err.replace("│", " ").split())
    assert fake.requests == []


def test_strings_are_made_up(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].takes_images = False
    fake.versions[0].inputs[0].CopyFrom(pb.Tensor(name="text", datatype="BYTES", shape=[-1, 2]))
    assert ask("bench", *SHORT, "--batch", 3).code == 0
    raw = fake.requests[0].raw_input_contents[0]
    texts = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        texts.append(int(raw[4:end]))
        raw = raw[end:]
    assert len(texts) == 6


def test_other_models_than_image_classifiers_are_called_by_infer(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].takes_images = False
    found = json.loads(ask("bench", *SHORT, "--json").out)
    assert found["method"] == "/inference.GRPCInferenceService/ModelInfer"


def test_pictures_are_sent_in_turn_and_every_request_is_full(ask: Callable[..., Any], fake: Any, folder: Path) -> None:
    (folder / "b" / "d.webp").unlink()
    ran = ask(
        "bench",
        "--model",
        "digits",
        "--requests",
        4,
        "--warmup-s",
        0,
        "--concurrency",
        1,
        "--batch",
        2,
        "--images",
        folder,
    )
    assert ran.code == 0
    sent = [[one.encoded.decode() for one in request.images] for request in fake.requests]
    # The first one is sent before the measurement, to see that it is answered.
    assert sent == [["4", "2"], ["4", "2"], ["9", "4"], ["4", "2"], ["9", "4"]]


def test_files_become_raw_pixels_for_infer(ask: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (30, 20), (255, 255, 255)).save(tmp_path / "white.png")
    ran = ask("bench", *SHORT, "--method", "infer", "--images", tmp_path / "white.png")
    assert ran.code == 0
    assert fake.requests[0].raw_input_contents[0] == b"\xff" * 6


def test_files_become_a_models_numbers_as_its_declaration_says(
    ask: Callable[..., Any], fake: Any, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (30, 20), (255, 0, 51)).save(tmp_path / "red.png")
    fake.versions[0].inputs[0].CopyFrom(pb.Tensor(name="pixels", datatype="FP32", shape=[-1, 3, -1, -1]))
    fake.versions[0].picture = "fit=letterbox background=black size=2x2 scale=0..1"
    options = ("--method", "infer", "--images", tmp_path / "red.png")
    assert ask("bench", *SHORT, *options).code == 0
    sent = np.frombuffer(fake.requests[0].raw_input_contents[0], np.float32).reshape(3, 2, 2)
    # A letterbox of 30 × 20 in 2 × 2 has one row of the picture.
    np.testing.assert_allclose(sent, [[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0.2, 0.2], [0, 0]]], atol=1e-6)
    ran = ask("bench", *SHORT, *options, "--shape", "pixels:1,3,9,9")
    assert ran.code == 2
    assert "takes pictures of (3, 2, 2); leave it out" in ran.err


def test_files_for_other_models_than_image_classifiers_are_refused(
    ask: Callable[..., Any], fake: Any, folder: Path
) -> None:
    fake.versions[0].inputs[0].CopyFrom(pb.Tensor(name="row", datatype="FP32", shape=[-1, 4]))
    fake.versions[0].takes_images = False
    ran = ask("bench", *SHORT, "--images", folder)
    assert "digits takes no pictures; leave --images out" in ran.err


def test_the_rate_is_kept_and_said(ask: Callable[..., Any], fake: Any) -> None:
    ran = ask("bench", "--model", "digits", "--requests", 10, "--rate", 1000, "--warmup-s", 0, "--json")
    found = json.loads(ran.out)
    assert found["load"] == "1000 requests/s"
    assert found["requests"] == 10
    assert len(fake.requests) == 11


@pytest.mark.slow
def test_a_stall_of_a_real_server_is_in_the_percentiles(ask: Callable[..., Any], fake: Any) -> None:
    """
    1. 50 requests are to start 10 ms apart; the server answers none before it has received the last.
    2. So the first, which was to start 490 ms before the last, waited at least 490 ms, and so on: whatever the
       machine's speed, half of all waited 240 ms or more.
    """
    received = iter(range(10**6))

    def begin(request: object, context: object) -> None:
        # The request that opens the connection is number 0, and is answered at once.
        arrived = next(received)
        if arrived == 0:
            fake.gate.clear()
        elif arrived == 50:
            fake.gate.set()
        else:
            fake.gate.wait(30)

    fake.begin = begin
    ran = ask(
        "bench", "--model", "digits", "--requests", 50, "--rate", 100, "--warmup-s", 0, "--json", "--timeout-s", 60
    )
    latency_ms = json.loads(ran.out)["latency_ms"]
    assert latency_ms["max"] >= 490
    assert latency_ms["p50"] >= 240
    assert latency_ms["p90"] >= 440


def test_errors_are_counted_by_status(ask: Callable[..., Any], fake: Any) -> None:
    fake.fails = lambda number: grpc.StatusCode.RESOURCE_EXHAUSTED if number % 21 in (1, 5, 9) else None
    ran = ask("bench", *SHORT, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert found["errors"] == {"RESOURCE_EXHAUSTED": 3}
    assert (found["requests"], found["answered"]) == (20, 17)
    assert "RESOURCE_EXHAUSTED: 3 requests" in ask("bench", *SHORT).out


def test_too_slow_is_an_exit_code_of_its_own_after_the_report(ask: Callable[..., Any]) -> None:
    ran = ask("bench", *SHORT, "--json", "--assert-p99-ms", 0)
    assert ran.code == 12
    assert json.loads(ran.out)["answered"] == 20
    assert ran.err.startswith("pixelserve: p99 is ")
    assert ask("bench", *SHORT, "--assert-p99-ms", 1e9).code == 0


def test_a_failed_request_is_slower_than_any_limit(ask: Callable[..., Any], fake: Any) -> None:
    fake.fails = lambda number: grpc.StatusCode.UNAVAILABLE if number == 5 else None
    ran = ask("bench", *SHORT, "--assert-p99-ms", 1e9)
    assert ran.code == 12
    assert "(including 1 failed)" in ran.err


def test_a_first_request_that_fails_ends_it_before_any_load(ask: Callable[..., Any], fake: Any) -> None:
    fake.fails = lambda number: grpc.StatusCode.PERMISSION_DENIED
    ran = ask("bench", *SHORT)
    assert ran.code == 1
    assert "PERMISSION_DENIED: as it was told" in ran.err
    assert len(fake.requests) == 1


def test_broken_pictures_are_not_measured(ask: Callable[..., Any], fake: Any, folder: Path) -> None:
    ran = ask("bench", *SHORT, "--images", folder / "b" / "d.webp")
    assert ran.code == 1
    assert "this is not a picture" in ran.err
    assert len(fake.requests) == 1


def test_no_answer_at_all_is_a_failure(ask: Callable[..., Any], fake: Any) -> None:
    fake.fails = lambda number: grpc.StatusCode.UNAVAILABLE if number else None
    ran = ask("bench", *SHORT)
    assert ran.code == 1
    assert "UNAVAILABLE 20 times" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--concurrency", 2, "--rate", 5], 2, "exclude each other"),
        (["--requests", 2, "--duration-s", 5], 2, "exclude each other"),
        (["--batch", 65], 2, "at most 64 images per request"),
        (["--images", "nothing"], 2, "nothing"),
        (["--rate", 0], 2, "--rate"),
        (["--model-version", "9"], 4, "version 9 of digits is not ready; the server has version 1: READY"),
        (["--model", "letters"], 4, "the server has no model letters"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    ask: Callable[..., Any], fake: Any, arguments: list[object], code: int, told: str
) -> None:
    ran = ask("bench", "--model", "digits", *arguments)
    assert ran.code == code
    assert told in ran.err
    assert not fake.requests


def test_a_model_that_is_not_ready_is_said_with_its_reason(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].state = pb.ModelVersion.STATE_UNAVAILABLE
    fake.versions[0].reason = "golden outputs differ"
    ran = ask("bench", *SHORT)
    assert ran.code == 4
    assert "no version of digits is ready; the server has version 1: UNAVAILABLE golden outputs differ" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("load", [("--concurrency", "4"), ("--rate", "200")], ids=["closed", "open"])
def test_ctrl_c_ends_it_cleanly(interrupt: Callable[..., Any], fake: Any, load: tuple[str, str]) -> None:
    """
    1. The server answers the first request, and no further one.
    2. SIGINT, while requests are under way.
    3. The command ends with 130; no thread of it complains.
    """
    started = iter(range(10**6))
    asked = fake.asked

    def begin(request: object, context: object) -> None:
        if next(started) >= 3:
            asked.set()
            fake.gate.wait(30)

    fake.begin = begin
    ran = interrupt("bench", "--model", "digits", *load, "--duration-s", "60")
    assert ran.code == 130
    assert ran.err == ""
    assert ran.out == ""
