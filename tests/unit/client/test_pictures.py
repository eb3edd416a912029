"""Encoding of each kind of image."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.client.pictures import is_picture, load, takes_long


def raw_of(picture: Any) -> Any:
    image = load(picture).image
    assert image is not None
    assert image.WhichOneof("content") == "raw"
    return image.raw


def gradient(mode: str = "RGB") -> Image.Image:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    return Image.fromarray(pixels).convert(mode)


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"anything")
    for kind in (path, str(path)):
        loaded = load(kind)
        assert loaded.image is not None
        assert (loaded.image.encoded, loaded.source) == (b"anything", str(path))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_an_encoded_file(kind: Any) -> None:
    loaded = load(kind(b"anything"))
    assert loaded.image is not None
    assert (loaded.image.encoded, loaded.source) == (b"anything", None)


@pytest.mark.parametrize(("shape", "channels"), [((4, 3), 1), ((4, 3, 1), 1), ((4, 3, 3), 3), ((4, 3, 4), 4)])
def test_an_array_is_sent_as_raw_pixels(shape: tuple[int, ...], channels: int) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    raw = raw_of(array)
    assert (raw.height, raw.width, raw.channels, raw.data) == (4, 3, channels, array.tobytes())


def test_an_array_with_gaps_is_sent_in_rows() -> None:
    array = np.arange(48, dtype=np.uint8).reshape(8, 6)[::2, ::-1]
    assert raw_of(array).data == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "uint16"])
def test_an_array_of_another_type_says_how_to_convert_it(dtype: str) -> None:
    with pytest.raises(TypeError, match=rf"uint8.*{dtype}.*astype\('uint8'\)"):
        load(np.zeros((4, 3), dtype))


@pytest.mark.parametrize("shape", [(12,), (4, 3, 2), (10, 28, 28), (2, 4, 3, 3), (0, 3), (4, 0, 3)])
def test_an_array_of_another_shape_says_what_to_do(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"list\(array\)"):
        load(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_a_pil_image_of_a_plain_mode_is_sent_as_raw_pixels(mode: str, channels: int) -> None:
    image = gradient(mode)
    raw = raw_of(image)
    assert (raw.height, raw.width, raw.channels, raw.data) == (4, 3, channels, image.tobytes())


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_a_pil_image_in_other_colours_becomes_rgb(mode: str) -> None:
    image = gradient(mode)
    raw = raw_of(image)
    assert (raw.channels, raw.data) == (3, image.convert("RGB").tobytes())


@pytest.mark.parametrize("mode", ["1", "LA", "P", "I;16"])
def test_a_pil_image_whose_conversion_is_the_servers_is_sent_as_png(mode: str) -> None:
    image = gradient("L").convert(mode)
    sent = load(image).image
    assert sent is not None
    with Image.open(io.BytesIO(sent.encoded)) as received:
        assert received.format == "PNG"
        assert received.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pil_image_without_a_range_says_how_to_convert_it(mode: str) -> None:
    with pytest.raises(ValueError, match=r"convert\('L'\)"):
        load(gradient("L").convert(mode))


def test_a_pil_photograph_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    image = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise shows it upright
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as photograph:
        raw = raw_of(photograph)
    assert (raw.height, raw.width) == (3, 4)
    assert raw.data == image.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_one_picture_is_distinguished_from_several() -> None:
    for one in ("a.png", Path("a.png"), b"", np.zeros((4, 3), np.uint8), gradient()):
        assert is_picture(one)
    for several in ([], ("a.png",), iter([b""]), {b""}, None, 7):
        assert not is_picture(several)


def test_only_files_and_pil_images_take_long() -> None:
    assert takes_long("a.png")
    assert takes_long(gradient())
    assert not takes_long(b"")
    assert not takes_long(np.zeros((4, 3), np.uint8))


@pytest.mark.slow
def test_importing_the_client_imports_no_library_that_it_can_do_without() -> None:
    heavy = [
        "numpy",
        "PIL",
        "onnxruntime",
        "tensorflow",
        "pydantic",
        "rich",
        "typer",
        "grpc_health.v1",
        "pixelserve_server",
    ]
    code = f"import sys, pixelserve.client; print([each for each in {heavy} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_file_that_is_forbidden_says_so_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The administrator, as whom tests may run, may read everything.
    monkeypatch.setattr("builtins.open", forbid)
    assert load(tmp_path / "a.png").error == "the file cannot be read: Permission denied; check its permissions"
