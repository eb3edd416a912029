"""Models accept images as declared in config.pbtxt, whatever the input's type, layout and size."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from pixelserve.card import Card, Parity, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.prepare import fitted, prepare
from pixelserve.imaging.spec import PictureSpec
from pixelserve.oip import inference_pb2, inference_pb2_grpc
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1 import classifier_pb2_grpc

TIMEOUT_S = 30
# Each model's numbers are the means of a picture's channels, so they show what became of the picture.
# By name: the graph's input, config.pbtxt's max_batch_size, and its declaration.
MODELS: dict[str, tuple[tuple[Any, ...], int, str]] = {
    "imagenet": (("N", 3, 32, 32), 8, "imagenet"),
    "bgr": (("N", 3, 32, 32), 8, "imagenet colour=bgr fit=stretch"),
    "last": (("N", 32, 48, 3), 8, "vit"),
    "free": (("N", 3, "H", "W"), 8, "fit=letterbox background=#ff0000 size=24x40 scale=0..1"),
    "one": ((1, 3, 32, 32), 0, "keras scale=0..255"),
    "half": (("N", 3, 32, 32), 8, "mean=0.5,0.4,0.3 std=0.2"),
}


@pytest.fixture(scope="module")
def repository(graph_writer: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("declared")
    for name, (shape, rows, picture) in MODELS.items():
        kind = "FLOAT16" if name == "half" else "FLOAT"
        graph_writer(
            root / name / "1" / "model.onnx",
            {"pixels": (kind, list(shape))},
            {"scores": (kind, [shape[0], 3])},
            ("ReduceMean", "pixels", "scores"),
            axes=[1, 2] if shape[3] == 3 else [2, 3],
            keepdims=0,
        )
        (root / name / "config.pbtxt").write_text(
            f"max_batch_size: {rows} {'dynamic_batching { }' if rows else ''} "
            f'parameters {{ key: "picture" value {{ string_value: "{picture}" }} }} '
            f'parameters {{ key: "output_kind" value {{ string_value: "scores" }} }}'
        )
        write_evidence(root / name / "1", name)
    return root


def write_evidence(version: Path, name: str) -> None:
    """Writes a card, and golden samples of the picture and of its mirror image."""
    spec = declared(name)
    tensors = np.stack([prepare(each, spec) for each in GOLDEN])
    scores = tensors.astype(np.float64).mean(axis=(1, 2) if spec.layout == "nhwc" else (2, 3)).astype(spec.dtype)
    if not MODELS[name][1]:
        tensors, scores = tensors[:, None], scores[:, None]
    write_golden(version / "golden.npz", Golden({"pixels": tensors}, {"scores": scores}))
    parity = Parity(precision="float32", provider="CPUExecutionProvider", tolerance=0.02)
    card = Card(name=name, task="image", sha256=sha256_of(version / "model.onnx"), created="now", parity=[parity])
    card.write(version / "card.json")


def declared(name: str) -> PictureSpec:
    shape, _, line = MODELS[name]
    dims = tuple(-1 if isinstance(size, str) else size for size in shape[1:])
    return parse(line, Input(dims, "float16" if name == "half" else "float32"))


@pytest.fixture(scope="module")
def served(start_module_server: Callable[..., Any], repository: Path) -> Any:
    return start_module_server(repository)


@pytest.fixture(scope="module")
def channel(served: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.grpc) as channel:
        yield channel


def picture(width: int = 90, height: int = 60) -> Image.Image:
    ramp = np.linspace(0, 255, width)[None, :] + np.zeros((height, 1))
    pixels = np.stack([ramp, 255 - ramp, np.full_like(ramp, 40)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


GOLDEN = [picture(), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("name", MODELS)
def test_the_model_sees_the_picture_as_it_was_declared(channel: grpc.Channel, name: str) -> None:
    spec, rows = declared(name), MODELS[name][1]
    seen = prepare(picture(), spec)
    expected = seen.astype(np.float64).mean(axis=(0, 1) if spec.layout == "nhwc" else (1, 2))
    images = [pb.Image(encoded=encoded(picture()))] * (3 if rows else 1)
    stub = classifier_pb2_grpc.ClassifierStub(channel)
    asked = pb.ClassifyRequest(model=name, images=images, top_k=3, return_seen=True)
    for result in stub.Classify(asked, timeout=TIMEOUT_S).results:
        # What comes back are levels: red, green, blue, whatever the model's scale, layout and order.
        assert result.seen.data == np.rint(fitted(picture(), spec)).astype(np.uint8).tobytes()
        scores = {each.index: each.score for each in result.classes}
        assert [scores[index] for index in range(3)] == pytest.approx(expected, abs=0.02 if name == "half" else 1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_golden_samples_are_shown_as_the_pictures_that_they_were(channel: grpc.Channel, name: str) -> None:
    stub = classifier_pb2_grpc.ClassifierStub(channel)
    shown = stub.Samples(pb.SamplesRequest(model=name), timeout=TIMEOUT_S).pictures
    spec = declared(name)
    assert [(each.height, each.width, each.channels) for each in shown] == [(spec.height, spec.width, 3)] * 2
    levels = [np.rint(fitted(each, spec)).astype(np.uint8).tobytes() for each in GOLDEN]
    assert [each.data for each in shown] == levels


def test_a_model_of_one_picture_refuses_a_second_one(channel: grpc.Channel) -> None:
    images = [pb.Image(encoded=encoded(picture()))] * 2
    with pytest.raises(grpc.RpcError, match="2 images; expected 1 to 1"):
        classifier_pb2_grpc.ClassifierStub(channel).Classify(
            pb.ClassifyRequest(model="one", images=images), timeout=TIMEOUT_S
        )


def test_the_whole_declaration_is_returned(channel: grpc.Channel) -> None:
    said = (
        "colour=rgb layout=nchw size=32x32 fit=crop resize=37 resampling=bilinear mean=0.485,0.456,0.406 "
        "std=0.229,0.224,0.225"
    )
    versions = classifier_pb2_grpc.ClassifierStub(channel).ListModels(
        pb.ListModelsRequest(name="imagenet"), timeout=TIMEOUT_S
    )
    assert versions.versions[0].picture == said
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    metadata = stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="imagenet"), timeout=TIMEOUT_S)
    assert metadata.properties["picture"] == said
