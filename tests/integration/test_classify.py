"""Classify: valid images of every kind, and every possible error."""

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from PIL import Image

from benchmarks.drawn_digits import as_jpeg, photographed
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1 import classifier_pb2_grpc

TIMEOUT_S = 30


@pytest.fixture(scope="module")
def stub(server: Any) -> Iterator[classifier_pb2_grpc.ClassifierStub]:
    with grpc.insecure_channel(server.grpc) as channel:
        yield classifier_pb2_grpc.ClassifierStub(channel)


@pytest.fixture(scope="module")
def digits(root: Path) -> list[bytes]:
    """The committed pictures as files, in the order of their digits."""
    return [path.read_bytes() for path in sorted((root / "examples" / "mnist").glob("*.png"))]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def request(pictures: Sequence[bytes | pb.RawPixels], **fields: Any) -> pb.ClassifyRequest:
    parts = [pb.Image(raw=each) if isinstance(each, pb.RawPixels) else pb.Image(encoded=each) for each in pictures]
    return pb.ClassifyRequest(**{"model": "mnist-cnn", "images": parts, **fields})


def test_every_digit_is_classified_with_its_label_index_and_probability(stub: Any, digits: list[bytes]) -> None:
    response = stub.Classify(request(digits, top_k=3), timeout=TIMEOUT_S)
    assert (response.model, response.version) == ("mnist-cnn", "1")
    assert [result.classes[0].label for result in response.results] == list("0123456789")
    for digit, result in enumerate(response.results):
        assert result.classes[0].index == digit
        chances = [each.probability for each in result.classes]
        assert len(chances) == 3
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1 + 1e-6


def test_files_and_raw_pixels_of_a_picture_get_the_same_answer(stub: Any, digits: list[bytes]) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(digits[7])))
    raw = pb.RawPixels(height=28, width=28, channels=1, data=pixels.tobytes())
    response = stub.Classify(request([digits[7], raw], top_k=10), timeout=TIMEOUT_S)
    assert response.results[0] == response.results[1]


def test_without_top_k_the_best_class_comes_and_too_many_mean_all(stub: Any, digits: list[bytes]) -> None:
    for top_k, classes in ((None, 1), (10, 10), (2**31 - 1, 10)):
        (result,) = stub.Classify(request(digits[:1], top_k=top_k), timeout=TIMEOUT_S).results
        assert len(result.classes) == classes


def test_a_drawing_on_paper_is_inverted_unless_the_request_says_never(stub: Any, digits: list[bytes]) -> None:
    paper = encoded(Image.fromarray(255 - np.asarray(Image.open(io.BytesIO(digits[3])))))

    def best(inversion: int) -> pb.Class:
        return stub.Classify(request([paper], inversion=inversion), timeout=TIMEOUT_S).results[0].classes[0]

    assert (
        best(pb.INVERSION_UNSPECIFIED).label == best(pb.INVERSION_AUTO).label == best(pb.INVERSION_ALWAYS).label == "3"
    )
    assert best(pb.INVERSION_NEVER) != best(pb.INVERSION_AUTO)


@pytest.mark.slow
def test_photographed_digits_are_read(stub: Any, digits: list[bytes]) -> None:
    photographs = [
        as_jpeg(photographed(np.asarray(Image.open(io.BytesIO(data))), seed)) for seed, data in enumerate(digits)
    ]
    response = stub.Classify(request(photographs), timeout=TIMEOUT_S)
    right = sum(result.classes[0].index == digit for digit, result in enumerate(response.results))
    # All ten are read; without the inversion, three are.
    assert right >= 9


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def declared(width: int, height: int) -> bytes:
    """A PNG whose header declares a size, correctly signed, with nothing of that size behind it."""
    data = bytearray(encoded(Image.new("L", (8, 8))))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BAD_PICTURES: dict[str, tuple[bytes | pb.RawPixels, str]] = {
    "nothing": (b"", "empty (0 bytes)"),
    "text": (b"seven", "this is text, which cannot be read as a picture"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "a PDF": (b"%PDF-1.7\n%%EOF", "a PDF document"),
    "a truncated TIFF": (encoded(NOISE, "TIFF")[:-4000], "damaged"),
    "a truncated PNG": (encoded(NOISE)[:-4000], "damaged"),
    "a truncated JPEG": (encoded(NOISE, "JPEG")[:-800], "damaged"),
    "a PNG header alone": (encoded(NOISE)[:40], "damaged|starts like a PNG"),
    "20,000 x 20,000": (declared(20_000, 20_000), "pixels"),
    "8,000 x 8,000": (declared(8_000, 8_000), "64,000,000 pixels; at most 50,000,000"),
    "a gigabyte declared in 100 bytes": (pb.RawPixels(height=2**15, width=2**15, channels=1, data=b"x"), "pixels"),
    "raw pixels without height": (pb.RawPixels(width=28, channels=1), "at least 1 × 1"),
    "raw pixels of two channels": (pb.RawPixels(height=2, width=2, channels=2, data=bytes(8)), "2 channels"),
    "too few raw pixels": (pb.RawPixels(height=28, width=28, channels=1, data=bytes(783)), "783 came"),
}


@pytest.mark.parametrize(("picture", "said"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_a_bad_picture_gets_an_error_of_its_own(
    stub: Any, digits: list[bytes], picture: bytes | pb.RawPixels, said: str
) -> None:
    response = stub.Classify(request([digits[4], picture, digits[2]]), timeout=TIMEOUT_S)
    good, bad, other = response.results
    assert (good.classes[0].label, other.classes[0].label) == ("4", "2")
    assert not bad.classes
    assert any(part in bad.error for part in said.split("|")), bad.error


def test_an_image_without_content_is_named(stub: Any) -> None:
    (result,) = stub.Classify(pb.ClassifyRequest(model="mnist-cnn", images=[pb.Image()]), timeout=TIMEOUT_S).results
    assert "is empty" in result.error


ODD_PICTURES = {
    "CMYK": encoded(Image.new("CMYK", (30, 30), (10, 20, 30, 40)), "JPEG"),
    "16 bits": encoded(Image.fromarray(np.full((30, 30), 40_000, np.uint16))),
    "palette": encoded(NOISE.convert("P")),
    "palette with transparency": encoded(NOISE.convert("P"), "GIF", transparency=3),
    "1 bit": encoded(NOISE.convert("1")),
    "1 x 1": encoded(Image.new("L", (1, 1))),
    "1 x 4,000": encoded(Image.new("L", (1, 4_000))),
    "with alpha": encoded(Image.new("RGBA", (30, 30), (1, 2, 3, 4))),
    "animated": encoded(NOISE, "GIF", save_all=True, append_images=[NOISE.rotate(90)]),
}


@pytest.mark.parametrize("picture", ODD_PICTURES.values(), ids=ODD_PICTURES)
def test_an_odd_picture_is_classified(stub: Any, picture: bytes) -> None:
    (result,) = stub.Classify(request([picture]), timeout=TIMEOUT_S).results
    assert (len(result.classes), result.error) == (1, "")


GOOD = encoded(Image.new("L", (28, 28)))
NAMES = ["a/b", "../mnist-cnn", "mnist.cnn", "mnist-cnn\0", "", "x" * 10_000]
BAD_REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    **{f"a model named {name[:14]!r}": ({"model": name}, "NOT_FOUND", "there is no model") for name in NAMES},
    "an unknown version": ({"version": "7"}, "NOT_FOUND", "has no version 7"),
    "a version that is no number": ({"version": "latest"}, "INVALID_ARGUMENT", "expected a positive integer"),
    "no images": ({"images": []}, "INVALID_ARGUMENT", "0 images; expected 1 to 64"),
    "too many images": ({"images": [pb.Image(encoded=GOOD)] * 65}, "INVALID_ARGUMENT", "65 images; expected 1 to 64"),
    "top_k of 0": ({"top_k": 0}, "INVALID_ARGUMENT", "top_k is 0; expected 1 or more"),
    "a negative top_k": ({"top_k": -5}, "INVALID_ARGUMENT", "top_k is -5"),
    "an unknown inversion": ({"inversion": 9}, "INVALID_ARGUMENT", "inversion is 9"),
}


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(("fields", "code", "said"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_reason(stub: Any, fields: dict[str, Any], code: str, said: str) -> None:
    found, details = refusal(lambda: stub.Classify(request([GOOD], **fields), timeout=TIMEOUT_S))
    assert found == code
    assert said in details


def test_bytes_that_are_no_request_are_refused(server: Any) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        classify = channel.unary_unary("/pixelserve.v1.Classifier/Classify")
        # A field of a gigabyte, declared in a few bytes.
        for body in (b"\x2a\xff\xff\xff\xff\x03abc", b"\xff\xff\xff"):
            assert refusal(lambda: classify(body, timeout=TIMEOUT_S))[0] == "INVALID_ARGUMENT"  # noqa: B023


def status(server: Any, field: str) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


@pytest.mark.slow
def test_after_everything_bad_the_server_is_as_before(server: Any, stub: Any, digits: list[bytes]) -> None:
    """Answers, threads and memory, after the tables once to warm up and then five times more."""

    def send_everything_bad() -> None:
        for picture, _ in BAD_PICTURES.values():
            stub.Classify(request([picture]), timeout=TIMEOUT_S)
        for fields, _, _ in BAD_REQUESTS.values():
            refusal(lambda: stub.Classify(request([GOOD], **fields), timeout=TIMEOUT_S))  # noqa: B023

    before = stub.Classify(request(digits, top_k=10), timeout=TIMEOUT_S)
    # The pools start a thread for work that comes while their others are busy: once now, and not by chance below.
    for call in [stub.Classify.future(request(digits), timeout=TIMEOUT_S) for _ in range(16)]:
        call.result()
    for _ in range(3):
        send_everything_bad()
    threads, memory_kib = status(server, "Threads"), status(server, "VmRSS")
    for _ in range(5):
        send_everything_bad()
    assert stub.Classify(request(digits, top_k=10), timeout=TIMEOUT_S) == before
    assert status(server, "Threads") <= threads
    # One 50-megapixel picture kept would be 50 MiB.
    assert status(server, "VmRSS") < memory_kib + 16 * 1024


def test_list_models_tells_what_the_server_has(stub: Any) -> None:
    (version,) = stub.ListModels(pb.ListModelsRequest(name="mnist-cnn"), timeout=TIMEOUT_S).versions
    assert version.state == pb.ModelVersion.STATE_READY
    assert (version.verified, version.takes_images, version.max_batch_size) == (True, True, 64)
    assert (version.provider, list(version.outputs[0].labels)) == ("CPUExecutionProvider", list("0123456789"))
    assert '"accuracy":0.9932' in version.card_json
    assert refusal(lambda: stub.ListModels(pb.ListModelsRequest(name="none"), timeout=TIMEOUT_S))[0] == "NOT_FOUND"


def test_of_several_outputs_the_one_with_labels_is_answered_from(
    start_server: Callable[..., Any], graph_writer: Callable[..., Path], tmp_path: Path
) -> None:
    image, row = ("UINT8", ["N", 1, 3, 1]), ("FLOAT", ["N", 3])
    folder = tmp_path / "models" / "colours"
    nodes = ("Flatten", "image", "flat"), ("Cast", "flat", "scores")
    path = graph_writer(folder / "1" / "model.onnx", {"image": image}, {"scores": row}, *nodes, to=1)
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Neg", ["scores"], ["inverse"]))
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("inverse", 1, ["N", 3]))
    onnx.save(model, path)
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "config.pbtxt").write_text(
        'max_batch_size: 4 output { name: "scores" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }'
    )
    server = start_server(tmp_path / "models")
    with grpc.insecure_channel(server.grpc) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        raw = pb.RawPixels(height=1, width=3, channels=1, data=bytes([10, 200, 30]))
        response = stub.Classify(request([raw], model="colours"), timeout=TIMEOUT_S)
    assert response.results[0].classes[0].label == "green"
