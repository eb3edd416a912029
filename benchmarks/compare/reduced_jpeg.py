"""Compares JPEGs decoded at reduced size with the same ones decoded whole, after resizing to the model's size.

libjpeg can omit the high frequencies of each block while decoding, which Pillow calls draft mode: a picture with half,
a quarter or an eighth of the sides, in less time. Prints the largest difference, and the CPU time of decoding relative
to the whole picture's, for a drawn photo and two pictures of fine detail, all of 12 megapixels.
`python -m benchmarks.compare.reduced_jpeg`, half a minute.
"""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from .photos import jpeg, photo

WIDTH, HEIGHT = 4000, 3000
TARGETS = (28, 224)
SCALES = (2, 4, 8)


def grass() -> Image.Image:
    """Returns noise over the whole range, like sunlit grass and gravel."""
    chance = np.random.default_rng(0)
    levels = chance.normal(0, 90, (HEIGHT, WIDTH, 1)) + np.array([60, 140, 30])
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def twigs() -> Image.Image:
    """Returns thin dark lines on a white sky."""
    chance = np.random.default_rng(0)
    image = Image.new("RGB", (WIDTH, HEIGHT), (250, 250, 255))
    draw = ImageDraw.Draw(image)
    for _ in range(200_000):
        x, y = (int(chance.integers(0, side)) for side in image.size)
        across, down = (int(each) for each in chance.integers(-14, 15, 2))
        draw.line((x, y, x + across, y + down), fill=(int(chance.integers(0, 70)),) * 3, width=2)
    return image


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "photo": lambda: photo(WIDTH, HEIGHT, 0),
    "grass": grass,
    "twigs": twigs,
}


def decode(data: bytes, scale: int) -> tuple[Image.Image, float]:
    """Returns a picture decoded at 1/scale of its sides, and the CPU seconds."""
    start_s = time.process_time()
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (WIDTH // scale, HEIGHT // scale))
    image.load()
    return image, time.process_time() - start_s


def main() -> None:
    """Prints the table."""
    print(
        "| picture | JPEG quality | decoded at | time | "
        + " | ".join(f"most levels off at {t}" for t in TARGETS)
        + " |"
    )
    print("|---|---|---|---|" + "---|" * len(TARGETS))
    for name, draw in PICTURES.items():
        drawn = draw()
        for quality in (95, 85, 60):
            data = jpeg(drawn, quality)
            whole, whole_s = decode(data, 1)
            for scale in SCALES:
                reduced, reduced_s = decode(data, scale)
                off = [_off(whole, reduced, target) for target in TARGETS]
                print(
                    f"| {name} | {quality} | 1/{scale} | {reduced_s / whole_s:.2f} | "
                    + " | ".join(map(str, off))
                    + " |"
                )


def _off(whole: Image.Image, reduced: Image.Image, target: int) -> int:
    size = target, target * HEIGHT // WIDTH
    first, second = (np.asarray(each.resize(size, Image.Resampling.BILINEAR), np.int16) for each in (whole, reduced))
    return int(np.abs(first - second).max())


if __name__ == "__main__":
    main()
