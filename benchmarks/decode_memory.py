"""Measures the memory of decoding and preprocessing pictures against the estimate made beforehand.

The server admits pictures by the estimate (`--max-decode-mib`), so a measurement above it is a bug, and the exit code
is 1. Each picture is measured in its own process, whose high-water mark Linux resets (proc(5), clear_refs).

    python -m benchmarks.decode_memory [--width 5000] [--height 4000] [NAME ...]
"""

import argparse
import ctypes
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.decode import open_file
from pixelserve.imaging.formats import FORMATS
from pixelserve.imaging.prepare import prepare
from pixelserve.imaging.spec import PictureSpec

# Code pages on first use, and memory kept by the interpreter and malloc.
NOISE_BYTES = 2 * 1024 * 1024
SPECS = {
    "colour": PictureSpec(224, 224, 3),
    "grey": PictureSpec(28, 28, 1),
    "colour, inverted": PictureSpec(224, 224, 3, "always"),
    "grey, inverted": PictureSpec(28, 28, 1, "always"),
    "imagenet": parse("imagenet", Input((3, 224, 224), "float32")),
    "keras": parse("keras", Input((224, 224, 3), "uint8")),
    "mnist": parse("mnist", Input((28, 28, 1), "uint8")),
}


class Figures(NamedTuple):
    """One picture's memory for one kind of model, in bytes."""

    promised: int
    measured: int

    @property
    def is_kept(self) -> bool:
        """Whether the estimate was kept."""
        return self.measured <= self.promised + NOISE_BYTES


Maker = Callable[[int, int], bytes]


def blots(width: int, height: int) -> Image.Image:
    """Returns a picture with content that encodes quickly."""
    coarse = np.random.default_rng(0).integers(0, 256, (max(height // 40, 1), max(width // 40, 1), 4), dtype=np.uint8)
    return Image.fromarray(coarse, "RGBA").resize((width, height))


def saved(kind: str, mode: str, **options: Any) -> Maker:
    """Returns a function that encodes a file of a format and mode."""

    def make(width: int, height: int) -> bytes:
        image = blots(width, height)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256)
        file = io.BytesIO()
        image.convert(mode).save(file, kind, **options)
        return file.getvalue()

    return make


def turned() -> Image.Exif:
    """Returns EXIF data of a camera held sideways."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def in_run_lengths(width: int, height: int) -> bytes:
    """Returns a run-length encoded BMP, which Pillow does not write, within the size limit for such files."""
    width, height = min(width, 2000), min(height, 2000)
    rows = (b"\xff\x07" * (width // 255) + bytes([width % 255, 7]) + b"\0\0") * height + b"\0\1"
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    header = np.array([40, width, height, 8 << 16 | 1, 1, len(rows), 2835, 2835, 256, 0], "<u4").tobytes()
    start = 14 + len(header) + len(palette)
    return b"BM" + np.array([start + len(rows), 0, start], "<u4").tobytes() + header + palette + rows


ONE_STRIP = {"compression": "tiff_lzw", "strip_size": 1 << 30}
FAST = {"speed": 10}
CASES: dict[str, Maker] = {
    "PNG, black and white": saved("PNG", "1"),
    "PNG, grey": saved("PNG", "L", compress_level=1),
    "PNG, grey with alpha": saved("PNG", "LA", compress_level=1),
    "PNG, palette": saved("PNG", "P"),
    "PNG, palette, transparent": saved("PNG", "P", transparency=bytes(128)),
    "PNG, colour": saved("PNG", "RGB", compress_level=1),
    "PNG, colour, one transparent": saved("PNG", "RGB", compress_level=1, transparency=(1, 2, 3)),
    "PNG, colour with alpha": saved("PNG", "RGBA", compress_level=1),
    "PNG, 16 bits": saved("PNG", "I;16", compress_level=1),
    "PNG, 16 bits, one transparent": saved("PNG", "I;16", compress_level=1, transparency=3),
    "JPEG, grey": saved("JPEG", "L"),
    "JPEG, colour": saved("JPEG", "RGB"),
    "JPEG, turned": saved("JPEG", "RGB", exif=turned()),
    "JPEG, progressive": saved("JPEG", "RGB", progressive=True),
    "JPEG, progressive 4:4:4": saved("JPEG", "RGB", progressive=True, subsampling=0),
    "JPEG, CMYK": saved("JPEG", "CMYK"),
    "JPEG, CMYK, progressive": saved("JPEG", "CMYK", progressive=True),
    "BMP, palette": saved("BMP", "P"),
    "BMP, colour": saved("BMP", "RGB"),
    "BMP, colour with alpha": saved("BMP", "RGBA"),
    "BMP, run lengths": in_run_lengths,
    "GIF": saved("GIF", "P"),
    "GIF, transparent": saved("GIF", "P", transparency=3),
    "WebP": saved("WEBP", "RGB", method=0),
    "WebP, alpha": saved("WEBP", "RGBA", method=0),
    "WebP, lossless": saved("WEBP", "RGB", lossless=True, method=0, quality=0),
    "WebP, lossless, alpha": saved("WEBP", "RGBA", lossless=True, method=0, quality=0),
    "TIFF": saved("TIFF", "RGB"),
    "TIFF, LZW": saved("TIFF", "RGB", compression="tiff_lzw"),
    "TIFF, LZW in one strip": saved("TIFF", "RGB", **ONE_STRIP),
    "TIFF, LZW in one strip, alpha": saved("TIFF", "RGBA", **ONE_STRIP),
    "TIFF, CMYK in one strip": saved("TIFF", "CMYK", **ONE_STRIP),
    "TIFF, 16 bits in one strip": saved("TIFF", "I;16", **ONE_STRIP),
    "TIFF, JPEG in one strip": saved("TIFF", "RGB", compression="jpeg", strip_size=1 << 30),
    "TIFF, fax": saved("TIFF", "1", compression="group4"),
    "TIFF, turned": saved("TIFF", "RGB", exif=turned()),
    "AVIF, grey": saved("AVIF", "L", **FAST),
    "AVIF": saved("AVIF", "RGB", **FAST),
    "AVIF, 4:4:4": saved("AVIF", "RGB", subsampling="4:4:4", **FAST),
    "AVIF, 4:4:4, alpha": saved("AVIF", "RGBA", subsampling="4:4:4", **FAST),
}


def measure(
    names: Sequence[str], width: int, height: int, specs: Sequence[str] = tuple(SPECS)
) -> Iterator[tuple[str, int, list[Figures]]]:
    """Yields each picture's name, pixels, and figures for each of these SPECS."""
    root = Path(__file__).resolve().parent.parent
    for name in names:
        data = CASES[name](width, height)
        figures = []
        for spec in specs:
            # One process each: memory left in the heap would count for the next.
            command = [sys.executable, "-m", "benchmarks.decode_memory", "--child", spec]
            done = subprocess.run(command, input=data, capture_output=True, check=True, cwd=root)
            pixels, promised, measured = map(int, done.stdout.split())
            figures.append(Figures(promised, measured))
        yield name, pixels, figures


def child(spec: PictureSpec) -> None:
    """Decodes stdin; prints its pixels, and the estimated and measured bytes."""
    data = sys.stdin.buffer.read()
    for kind in FORMATS:
        prepare(open_file(saved(kind.pillow, "RGB")(64, 64), 10**9).decode(), SPECS["colour"])
    # Memory allocated for these would be reused without being measured.
    ctypes.CDLL(None).malloc_trim(0)
    before = memory_bytes("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")
    picture = open_file(data, 10**9)
    pixels, promised = picture.pixels, picture.bytes_needed(spec)
    prepare(picture.decode(), spec)
    print(pixels, promised, memory_bytes("VmHWM:") - before)


def memory_bytes(field: str) -> int:
    """Returns a kernel field, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--width", type=int, default=5000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--child", choices=SPECS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(SPECS[args.child])
        return 0
    table = Table("bytes per pixel: estimated, measured", *SPECS)
    is_kept = True
    for name, pixels, figures in measure(args.names or list(CASES), args.width, args.height):
        cells = [f"{each.promised / pixels:.1f} {each.measured / pixels:.1f}" for each in figures]
        is_kept = is_kept and all(each.is_kept for each in figures)
        table.add_row(
            name, *(cell if each.is_kept else f"[red]{cell}" for cell, each in zip(cells, figures, strict=True))
        )
    Console(width=120).print(table)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
