"""The server's resources for the page: files, models and figures."""

import base64
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PICTURE = (Path(__file__).resolve().parent.parent.parent / "examples/mnist/digit-7-test-00000.png").read_bytes()
FILES = ("/", "/page/app.js", "/page/style.css", "/page/icon.svg", "/page/vendor/preact.js")

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(server: Any, call_http: Call) -> Call:
    return lambda path, *args, **more: call_http(server, path, *args, **more)


@pytest.mark.parametrize("path", FILES)
def test_each_file_comes_with_headers_that_let_nothing_else_in(call: Call, path: str) -> None:
    answer = call(path)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_compressed_once_and_known_by_its_etag(call: Call, path: str) -> None:
    plain, packed = call(path), call(path, headers={"Accept-Encoding": "br, gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    again = call(path, headers={"If-None-Match": plain.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert call(path, headers={"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize(
    "path", ["/page/", "/page/../settings.py", "/page/%2e%2e/settings.py", "/page//app.js", "/page/x"]
)
def test_a_path_that_is_not_a_file_of_the_page_is_not_found(call: Call, path: str) -> None:
    answer = call(path)
    assert answer.status == 404
    assert "GET / is the page" in answer.error


def test_without_the_page_its_paths_say_so(start_server: Callable[..., Any], root: Path, call_http: Call) -> None:
    server = start_server(root / "models", "--no-page")
    for path in ("/", "/page/app.js"):
        answer = call_http(server, path)
        assert answer.status == 404
        assert "--no-page" in answer.error
    assert call_http(server, "/v1/models").status == 200


def test_models_are_listed_with_their_cards(call: Call) -> None:
    found = {each["name"]: each for each in call("/v1/models").json["versions"]}
    assert found["mnist-cnn"]["state"] == "STATE_READY"
    assert found["mnist-cnn"]["takes_images"] is True
    assert '"accuracy"' in found["mnist-cnn"]["card_json"]


def test_samples_are_the_golden_inputs(call: Call, root: Path) -> None:
    answer = call("/v1/models/cifar10/versions/1/samples").json["pictures"]
    expected = np.load(root / "models/cifar10/1/golden.npz")["inputs/image"][:10]
    assert [(each["height"], each["width"], each["channels"]) for each in answer] == [(32, 32, 3)] * 10
    assert [base64.b64decode(each["data"]) for each in answer] == [pixels.tobytes() for pixels in expected]
    assert call("/v1/models/none/samples").status == 404


def test_figures_grow_by_what_was_asked(call: Call, eventually: Callable[..., None]) -> None:
    def of_mnist() -> tuple[float, dict[str, Any]]:
        answer = call("/v1/figures").json
        assert answer["ready"] is True
        (version,) = [each for each in answer["versions"] if each["model"] == "mnist-cnn"]
        return answer["read_s"], version

    before_s, before = of_mnist()
    call("/v1/models/mnist-cnn:classify", PICTURE, {"Content-Type": "image/png"})
    # A run is counted just after its answers.
    eventually(lambda: of_mnist()[1]["success"] >= before["success"] + 1)
    after_s, after = of_mnist()
    assert after_s > before_s
    assert sum(after["request_seconds"]["counts"]) == after["success"]
    assert sum(after["batch_rows"]["counts"]) <= after["rows"]
    assert after["failure"].keys() == {"BACKEND", "CANCELED", "REJECTED"}


def test_figures_tell_the_grpc_port(call: Call, server: Any) -> None:
    assert call("/v1/figures").json["grpc_port"] == int(server.grpc.rpartition(":")[2])


def test_occlusion_is_what_covered_pictures_get_one_by_one(call: Call, root: Path) -> None:
    """The same covers, sent as pictures of their own, lower the best class by as much."""
    pixels = np.load(root / "models/cifar10/1/golden.npz")["inputs/image"][3]
    picture = {"Content-Type": "image/png"}

    def classify(levels: Any, options: str) -> Any:
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG")
        return call(f"/v1/models/cifar10:classify?{options}", file.getvalue(), picture).json["results"][0]

    whole = classify(pixels, "top_k=10&occlusion=2&return_seen=true")
    best = whole["classes"][0]
    median = np.median(pixels, axis=(0, 1)).astype(np.uint8)
    for cell, drop in enumerate(whole["occlusion"]):
        row, column = divmod(cell, 2)
        covered = pixels.copy()
        covered[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = median
        numbers = {each["label"]: each["probability"] for each in classify(covered, "top_k=10")["classes"]}
        assert drop == pytest.approx(best["probability"] - numbers[best["label"]], abs=1e-5)
    assert len(whole["occlusion"]) == 4
    assert base64.b64decode(whole["seen"]["data"]) == pixels.tobytes()
    assert "occlusion" not in classify(pixels, "occlusion=0")


@pytest.mark.parametrize("value", ["9", "1", "8", "-1", "x", "99999999999"])
def test_an_occlusion_that_cannot_be_is_refused(call: Call, value: str) -> None:
    answer = call(f"/v1/models/mnist-cnn:classify?occlusion={value}", PICTURE, {"Content-Type": "image/png"})
    assert answer.status == 400
    assert answer.error.startswith("occlusion")


def test_occlusion_of_an_invalid_picture_is_an_error(call: Call) -> None:
    answer = call("/v1/models/mnist-cnn:classify?occlusion=7", b"text", {"Content-Type": "image/png"})
    assert "error" in answer.json["results"][0]
