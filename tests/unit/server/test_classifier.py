"""Classify without a network: callers that leave, models that fail, and answers that cannot be written."""

import io
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.decode import open_file
from pixelserve.imaging.spec import PictureSpec
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve_server.api.accounting import Accounting
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.classifier import Classifier
from pixelserve_server.api.classify_job import ClassifyJob, PictureLimits
from pixelserve_server.api.codes import StatusCode
from pixelserve_server.api.dispatch import CallGuard
from pixelserve_server.engine.request import Answer, ComputedBatch, Request
from pixelserve_server.engine.scores import ScoreReader
from pixelserve_server.errors import InternalError, QueueFull, RequestError, Unloading
from pixelserve_server.imaging.fair import Step

BLACK = io.BytesIO()
Image.new("L", (4, 4)).save(BLACK, "PNG")


class Bench:
    """A classifier whose pool decodes on request, and whose batcher returns its input at once."""

    def __init__(self, config: Any) -> None:
        self.work: list[Callable[[], None]] = []
        self.jobs: list[ClassifyJob] = []
        self.dropped: list[ClassifyJob] = []
        self.steps = 0
        self.submitted: list[Request] = []
        self.logged: list[BaseException] = []
        self.answer: Any = None
        self.told: list[Step] = []
        self.loaded = self._version(config)
        self.asked: list[str] = []
        self.limits = PictureLimits(max_images=8, max_pixels=100, max_request_pixels=1000, max_bytes=1 << 30)
        self.classifier = self.build()

    def _version(self, config: Any) -> Any:
        batcher = SimpleNamespace(submit=self._submit)
        scores = ScoreReader(config.outputs[0], "probabilities", "as a test says", declared=True)
        return SimpleNamespace(name="m", version=3, config=config, batcher=batcher, scores=scores)

    def smaller(self) -> Any:
        """Returns a version of the same that takes smaller pictures."""
        return self._version(replace(self.loaded.config, pictures=PictureSpec(2, 2, 1)))

    def build(self) -> Classifier:
        """Returns a classifier with the bench's limits."""
        catalogue: Any = SimpleNamespace(
            get=lambda name, version: self.asked.append(f"version {version}") or self.loaded,
            get_alias=lambda name, alias: self.asked.append(alias) or self.loaded,
        )
        pool: Any = SimpleNamespace(submit=self._take, drop=self._drop)
        return Classifier(catalogue, pool, self.limits, CallGuard(self._log))

    def classify(self, message: bytes, call: Any) -> None:
        """Has a call's pictures decoded, and the call answered."""
        self.build().classify(message, call)
        self.work[-1]()

    def _take(self, job: ClassifyJob) -> None:
        self.jobs.append(job)
        self.work.append(lambda: self._run(job))

    def _run(self, job: ClassifyJob) -> None:
        while job not in self.dropped and (step := job.run()) is not None:
            self.steps += 1
            self.told.append(step)

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
    assert [status.code for status in call.failures] == [StatusCode.CANCELLED]


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
    assert [(status.code, status.message) for status in call.failures] == [(StatusCode.INTERNAL, "the model failed")]


def test_an_answer_that_cannot_be_written_is_an_internal_error_and_not_silence(
    bench: Bench, recorded_call: Any
) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([["text"]], object)})
    bench.classifier.classify(request(), call)
    bench.work[0]()
    assert [status.code for status in call.failures] == [StatusCode.INTERNAL]
    assert "the-id" in call.failures[0].message
    assert len(bench.logged) == 1


def test_a_class_without_a_label_is_called_by_its_index(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.2, 0.7]], np.float32)})
    bench.classifier.classify(request(top_k=2), call)
    bench.work[0]()
    (result,) = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert [each.label for each in result.classes] == ["2", "b"]


def picture(width: int, height: int, mode: str = "L") -> pb.Image:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return pb.Image(encoded=file.getvalue())


def test_what_pictures_will_be_for_the_model_counts_as_bytes_in_flight_before_they_are_decoded(
    bench: Bench, recorded_call: Any
) -> None:
    admission = Admission(7 * 4 * 4 - 1)
    first, second = recorded_call(), recorded_call()
    for call in (first, second):
        call.begin("/Classify", Accounting(admission, None, None), 0, None)
        admission.admit(call, 0)
    bench.classifier.classify(request(images=3), first)
    with pytest.raises(QueueFull, match=r"48 bytes .* are in flight, this one has 64"):
        bench.classifier.classify(request(images=4), second)
    assert len(bench.work) == 1


def test_a_request_of_too_many_pixels_is_refused_before_any_is_decoded(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.limits = replace(bench.limits, max_request_pixels=299)
    message = pb.ClassifyRequest(model="m", images=[picture(10, 10)] * 3).SerializeToString()
    bench.classify(message, call)
    assert [status.code for status in call.failures] == [StatusCode.INVALID_ARGUMENT]
    assert "have 300 pixels together; at most 299 are accepted (32 × --max-image-pixels)" in call.failures[0].message
    assert bench.submitted == []


def test_pictures_that_are_refused_by_themselves_do_not_count_as_the_requests_pixels(
    bench: Bench, recorded_call: Any
) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.9]], np.float32)})
    bench.limits = replace(bench.limits, max_request_pixels=100)
    message = pb.ClassifyRequest(model="m", images=[picture(11, 10), picture(10, 10)]).SerializeToString()
    bench.classify(message, call)
    too_large, good = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert "11 × 10 = 110 pixels" in too_large.error
    assert good.classes


def test_a_picture_that_takes_more_memory_than_decoding_may_costs_only_itself(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.9]], np.float32)})
    small = open_file(BLACK.getvalue(), 100).bytes_needed(PictureSpec(4, 4, 1))
    bench.limits = replace(bench.limits, max_bytes=small)
    message = pb.ClassifyRequest(model="m", images=[picture(10, 10), picture(4, 4)]).SerializeToString()
    bench.classify(message, call)
    greedy, good = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert f"at most {small:,} are allowed (--max-decode-mib)" in greedy.error
    assert good.classes


def test_a_small_picture_that_is_cut_off_costs_only_itself(bench: Bench, recorded_call: Any) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.9], [0.9, 0.1]], np.float32)})
    whole = picture(10, 10)
    message = pb.ClassifyRequest(model="m", images=[whole, pb.Image(encoded=whole.encoded[:-26]), whole])
    bench.classify(message.SerializeToString(), call)
    first, damaged, last = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert "damaged" in damaged.error
    assert [each.classes[0].label for each in (first, last)] == ["b", "a"]
    assert [len(each.inputs["image"]) for each in bench.submitted] == [2]


def test_the_memory_of_small_pictures_that_are_decoded_together_is_counted(bench: Bench, recorded_call: Any) -> None:
    bench.limits = replace(bench.limits, max_pixels=10**6, max_request_pixels=10**7)
    pictures = [picture(512, 512, "RGBA")] * 4

    def needed(side: int) -> int:
        return open_file(pictures[0].encoded, 10**6).bytes_needed(PictureSpec(side, side, 3))

    # The largest model whose pictures are still prepared together.
    side = max(side for side in range(1000) if needed(side) <= 32 * 1024 * 1024)
    bench.loaded.config = replace(bench.loaded.config, pictures=PictureSpec(side, side, 3))
    bench.build().classify(pb.ClassifyRequest(model="m", images=pictures).SerializeToString(), recorded_call())
    (job,) = bench.jobs
    assert job.first.bytes >= needed(side) + 3 * 4 * 512 * 512
    bench.answer = answer({"scores": np.array([[0.1, 0.9]] * 4, np.float32)})
    assert job.run() is None


@pytest.fixture
def large(bench: Bench) -> bytes:
    """A request of three pictures that are no longer small together, and of one that cannot be read."""
    bench.limits = replace(bench.limits, max_pixels=10**6, max_request_pixels=10**7)
    images = [picture(700, 700), pb.Image(encoded=b"?"), picture(700, 700), picture(700, 700)]
    return pb.ClassifyRequest(model="m", images=images).SerializeToString()


def test_large_pictures_are_decoded_one_a_step_and_answered_in_their_order(
    bench: Bench, recorded_call: Any, large: bytes
) -> None:
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]], np.float32)})
    bench.classify(large, call)
    # One measures, and the last of the three submits, too.
    assert bench.steps == 3
    assert [(step.cost, step.left) for step in bench.told[:3]] == [(490_000, left * 490_000) for left in (3, 2, 1)]
    results = pb.ClassifyResponse.FromString(call.replies[0]).results
    assert [each.classes[0].label if each.classes else "error" for each in results] == ["b", "error", "a", "b"]


def test_a_caller_who_leaves_between_pictures_ends_their_decoding(
    bench: Bench, recorded_call: Any, large: bytes
) -> None:
    call = recorded_call()
    bench.build().classify(large, call)
    (job,) = bench.jobs
    assert job.run() is not None
    assert job.run() is not None
    call.leave()
    assert (bench.dropped, [status.code for status in call.failures]) == ([job], [StatusCode.CANCELLED])
    assert bench.submitted == []


def test_a_version_that_leaves_while_pictures_are_decoded_is_replaced_by_what_took_its_place(
    bench: Bench, recorded_call: Any
) -> None:
    """The version that serves then takes smaller pictures: they are decoded for it."""
    call = recorded_call()
    bench.answer = answer({"scores": np.array([[0.1, 0.9]], np.float32)})
    bench.classifier.classify(request(), call)
    before, bench.loaded = bench.loaded, bench.smaller()

    def leave(request: Request) -> None:
        raise Unloading("gone")

    before.batcher.submit = leave
    bench.work[0]()
    assert [each.inputs["image"].shape for each in bench.submitted] == [(1, 2, 2, 1)]
    assert call.replies
