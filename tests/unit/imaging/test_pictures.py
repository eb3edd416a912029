"""Images in every common form, to a model's pixels."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.border import border_colour, border_level
from pixelserve.imaging.decode import decode_file, decode_raw
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.formats import FORMATS
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

GREY = PictureSpec(28, 28, 1)
COLOUR = PictureSpec(32, 32, 3)
MAX_PIXELS = 1_000_000


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """A colour picture without symmetry: red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 60)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("kind", [each.pillow for each in FORMATS])
def test_a_picture_of_every_format_is_read(kind: str) -> None:
    decoded = decode_file(encoded(gradient(), kind), MAX_PIXELS)
    assert decoded.size == (40, 30)
    difference = np.abs(prepare(decoded, COLOUR).astype(int) - prepare(gradient(), COLOUR))
    # Lossy formats and palettes change colours, not pictures.
    assert difference.mean() < 12


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("L", (10, 10), value) for value in (200, 10)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.all(prepare(decode_file(data, MAX_PIXELS), GREY) == 200)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(kind: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = gradient().transpose(undo[orientation]) if orientation in undo else gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_file(encoded(stored, kind, exif=exif, **options), MAX_PIXELS)
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(gradient()))


@pytest.mark.parametrize("kind", [each.pillow for each in FORMATS])
def test_a_picture_that_is_cut_off_anywhere_is_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    for end in range(0, len(data) - 64, max(len(data) // 40, 1)):
        with pytest.raises(ImageError):
            decode_file(data[:end], MAX_PIXELS)


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    bomb = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    # Width and height in a PNG's header, and the header's checksum; there are no such pixels behind it.
    bomb[16:24] = (20_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="too many pixels"):
        decode_file(bytes(bomb), MAX_PIXELS)


def test_a_real_bomb_is_refused_by_its_size() -> None:
    data = encoded(Image.new("1", (2_000, 2_000)), "PNG")
    assert len(data) < 2_000
    with pytest.raises(ImageError, match="2000 × 2000 = 4,000,000 pixels; at most 1,000,000 are accepted"):
        decode_file(data, MAX_PIXELS)


MODES = {
    "1": (Image.new("1", (28, 28), 1), 255),
    "L": (Image.new("L", (28, 28), 77), 77),
    "LA": (Image.new("LA", (28, 28), (77, 255)), 77),
    "P": (Image.new("L", (28, 28), 77).convert("P"), 77),
    "RGB": (Image.new("RGB", (28, 28), (77, 77, 77)), 77),
    "RGBA": (Image.new("RGBA", (28, 28), (77, 77, 77, 255)), 77),
    "CMYK": (Image.new("CMYK", (28, 28), (178, 178, 178, 0)), 77),
}


@pytest.mark.parametrize(("image", "grey"), MODES.values(), ids=MODES)
def test_every_mode_becomes_grey_or_colour(image: Image.Image, grey: int) -> None:
    assert np.all(prepare(image, GREY) == grey)
    assert prepare(image, COLOUR).shape == (32, 32, 3)


def test_colour_becomes_grey_by_bt_601() -> None:
    image = Image.new("RGB", (28, 28), (200, 100, 50))
    assert np.all(prepare(image, GREY) == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50))


def test_what_is_transparent_shows_white() -> None:
    assert np.all(prepare(Image.new("RGBA", (28, 28), (0, 0, 0, 0)), GREY) == 255)


def test_a_picture_of_the_models_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(prepare(Image.fromarray(pixels), GREY)[..., 0], pixels)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (28, 28), (700, 500)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_borders_level_and_colour_are_the_medians_of_its_pixels(size: tuple[int, int], mode: str) -> None:
    width, height = size
    levels = np.random.default_rng(0).integers(0, 256, width * height * len(mode), dtype=np.uint8)
    image = Image.frombytes(mode, size, levels.tobytes())

    def border(of: Image.Image) -> Any:
        pixels = np.asarray(of).reshape(height, width, -1)
        return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])

    assert border_level(image) == np.median(border(image.convert("L")))
    flat = image.convert("RGB") if mode == "RGBA" else image
    assert border_colour(flat) == tuple(np.median(border(flat), axis=0).astype(int))


def test_a_wide_picture_is_kept_whole_and_undistorted() -> None:
    pixels = np.zeros((100, 200), np.uint8)
    pixels[:, 50:150] = 255
    fitted = prepare(Image.fromarray(pixels), GREY)[..., 0]
    # 100 of 200 columns are lit; padding above and below has the median of the border, which is dark.
    assert fitted[0].max() == 0
    assert fitted[-1].max() == 0
    assert abs(int((fitted[14] > 127).sum()) - 14) <= 1
    assert abs(int((fitted[:, 14] > 127).sum()) - 14) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
@pytest.mark.parametrize("inversion", ["never", "always", "auto"])
def test_the_smallest_and_thinnest_pictures_are_taken(size: tuple[int, int], inversion: Any) -> None:
    assert prepare(Image.new("L", size, 200), GREY, inversion).shape == (28, 28, 1)


def drawing(ground: int, ink: int) -> Image.Image:
    pixels = np.full((280, 280), ground, np.uint8)
    pixels[60:220, 130:150] = ink
    return Image.fromarray(pixels)


def test_auto_inverts_a_dark_drawing_on_light_ground_and_no_other() -> None:
    auto = PictureSpec(28, 28, 1, "auto")
    for image in (drawing(230, 30), drawing(10, 240)):
        fitted = prepare(image, auto)[..., 0]
        assert fitted[0].max() < 20
        assert fitted[14, 13:15].min() > 200


def test_a_request_overrides_the_models_inversion() -> None:
    assert prepare(drawing(230, 30), PictureSpec(28, 28, 1, "auto"), "never")[0, 0, 0] > 200
    assert prepare(drawing(230, 30), PictureSpec(28, 28, 1, "never"), "always")[0, 0, 0] < 20


def test_shadows_on_paper_do_not_become_strokes() -> None:
    lit = np.tile(np.linspace(120, 240, 280), (280, 1))
    lit[60:220, 130:150] *= 0.3
    fitted = prepare(Image.fromarray(lit.astype(np.uint8)), PictureSpec(28, 28, 1, "auto"))[..., 0]
    assert fitted[:, :10].max() < 40
    assert fitted[:, 18:].max() < 40
    assert fitted[14, 13:15].min() > 180


def test_raw_pixels_are_taken_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    decoded = decode_raw(pixels.tobytes(), 28, 28, 3, MAX_PIXELS)
    np.testing.assert_array_equal(np.asarray(decoded), pixels)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((28, 28, 2), "2 channels; expected 1"),
        ((0, 28, 1), "expected at least 1 × 1"),
        ((28, 28, 3), "make 2352 bytes; 784 came"),
        ((2**31, 2**31, 1), "pixels; at most 1,000,000 are accepted"),
    ],
    ids=["channels", "no height", "too few bytes", "a gigabyte declared"],
)
def test_raw_pixels_that_do_not_add_up_are_refused(size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_raw(bytes(784), *size, MAX_PIXELS)
