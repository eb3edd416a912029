"""Classify without a network: what happens when callers leave, models fail and answers cannot be written."""

import io
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.prepare import PictureSpec
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve_server.api.classifier import Classifier
from pixelserve_server.api.classify_job import ClassifyJob, PictureLimits
from pixelserve_server.api.dispatch import Guard
from pixelserve_server.engine.request import Answer, ComputedBatch, Request
from pixelserve_server.engine.scores import ScoreReader
from pixelserve_server.errors import InternalError, RequestError

BLACK = io.BytesIO()
Image.new("L", (4, 4)).save(BLACK, "PNG")


class Bench:
    """A classifier whose pool decodes when it is told to, and whose batcher answers at once with what it is given."""

    def __init__(self, config: Any) -> None:
        self.work: list[Callable[[], None]] = []
        self.jobs: list[ClassifyJob] = []
        self.dropped: list[ClassifyJob] = []
        self.steps = 0
        self.submitted: list[Request] = []
        self.logged: list[BaseException] = []
        self.answer: Any = None
        batcher = SimpleNamespace(submit=self._submit)
        scores = ScoreReader(config.outputs[0], "probabilities", "as a test says", declared=True)
        loaded = SimpleNamespace(name="m", version=3, config=config, batcher=batcher, scores=scores)
        self.asked: list[str] = []
        catalogue: Any = SimpleNamespace(
            get=lambda name, version: self.asked.append(f"version {version}") or loaded,
            get_alias=lambda name, alias: self.asked.append(alias) or loaded,
        )
        pool: Any = SimpleNamespace(submit=self._take, drop=self._drop)
        limits = PictureLimits(max_images=8, max_pixels=100, max_request_pixels=1000, max_bytes=1 << 30)
        self.classifier = Classifier(catalogue, pool, limits, Guard(self._log))

    def _take(self, job: ClassifyJob) -> None:
        self.jobs.append(job)
        self.work.append(lambda: self._run(job))

    def _run(self, job: ClassifyJob) -> None:
        while job not in self.dropped and job.run() is not None:
            self.steps += 1

    def _drop(self, job: ClassifyJob, error: RequestError) -> None:
        if job in self.jobs and job not in self.dropped:
            self.dropped.append(job)
            job.drop(error)

    def _submit(self, request: Request) -> None:
        self.submitted.append(request)
        request.on_done(self.answer)

    def _log(self, error: BaseException) -> str:
        self.logged.append(error)
        return "the-id"


@pytest.fixture
def bench(model_config: Callable[..., Any]) -> Bench:
    config = model_config(image=("UINT8", (-1, 4, 4, 1)), outputs={"scores": ("FP32", (-1, -1))})
    config = replace(config, pictures=PictureSpec(4, 4, 1), outputs=(replace(config.outputs[0], labels=("a", "b")),))
    return Bench(config)


def answer(outputs: dict[str, Any]) -> Answer:
    return Answer(ComputedBatch(outputs, 1, is_alone=True), 0, 1)


def request(images: int = 1, **fields: Any) -> bytes:
    return pb.ClassifyRequest(
        model="m", images=[pb.Image(encoded=BLACK.getvalue())] * images, **fields
    ).SerializeToString()


def test_pictures_are_decoded_in_the_pool_and_not_on_the_callers_thread(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.9]], np.float32)})
    bench.classifier.classify(request(), call)
    assert (len(bench.work), bench.submitted, call.replies) == (1, [], [])
    bench.work[0]()
    (result,) = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert [(each.label, each.index) for each in result.classes] == [("b", 1)]
    assert bench.submitted[0].inputs["image"].shape == (1, 4, 4, 1)


@pytest.mark.parametrize(("version", "asked"), [("", "version "), ("3", "version 3"), ("candidate", "candidate")])
def test_a_version_is_a_number_or_a_name(bench: Bench, recorded_call: Any, version: str, asked: str) -> None:
    bench.classifier.classify(request(version=version), recorded_call())
    assert bench.asked == [asked]


def test_a_caller_who_left_before_decoding_costs_no_run_and_no_log_line(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.classifier.classify(request(images=3), call)
    call.leave()
    bench.work[0]()
    assert (bench.submitted, bench.logged) == ([], [])
    assert [status.code for status in call.failures] == [grpc.StatusCode.CANCELLED]


def test_a_caller_who_leaves_later_is_marked_for_the_batcher(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = InternalError("never mind")
    bench.classifier.classify(request(), call)
    bench.work[0]()
    assert not bench.submitted[0].cancelled
    call.leave()
    assert bench.submitted[0].cancelled


def test_a_model_that_fails_is_answered_with_its_error(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = InternalError("the model failed")
    bench.classifier.classify(request(), call)
    bench.work[0]()
    assert [(status.code, status.message) for status in call.failures] == [
        (grpc.StatusCode.INTERNAL, "the model failed")
    ]


def test_an_answer_that_cannot_be_written_is_an_internal_error_and_not_silence(
    bench: Bench, recorded_call: Any
) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([["text"]], object)})
    bench.classifier.classify(request(), call)
    bench.work[0]()
    assert [status.code for status in call.failures] == [grpc.StatusCode.INTERNAL]
    assert "the-id" in call.failures[0].message
    assert len(bench.logged) == 1


def test_a_class_without_a_label_is_called_by_its_index(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.2, 0.7]], np.float32)})
    bench.classifier.classify(request(top_k=2), call)
    bench.work[0]()
    (result,) = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert [each.label for each in result.classes] == ["2", "b"]
