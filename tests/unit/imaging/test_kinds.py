"""Files that are not readable images are identified, and the message says what to send."""

import base64
import gzip
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.decode import decode_file
from pixelserve.imaging.errors import ImageError
from pixelserve.imaging.kinds import explain

MAX_PIXELS = 1_000_000


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, kind)
    return file.getvalue()


def array_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
FILES = {
    "a phone's picture": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC picture.*convert it to JPEG"),
    "a camera's raw file": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "camera's raw file"),
    "a video": (b"\0\0\0\x18ftypisom" + bytes(99), r"video \(MP4 or QuickTime\)"),
    "a film": (b"\x1a\x45\xdf\xa3" + bytes(99), "video .*Matroska"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000"),
    "an icon": (encoded("ICO"), "icon file"),
    "Netpbm": (encoded("PPM"), "Netpbm picture"),
    "PDF": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "PDF document"),
    "SVG": (SVG, "an SVG drawing"),
    "SVG with a prologue": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a drawing -->\n' + SVG, "an SVG drawing"),
    "SVG in UTF-16": (SVG.decode().encode("utf-16"), "an SVG drawing"),
    "XML": (b"<?xml version='1.0'?><a/>", "XML text"),
    "an error page": (
        b"\n<!DOCTYPE html><html><body>404<svg></svg></body></html>",
        r"HTML page \(an error page",
    ),
    "JSON": (json.dumps({"instances": [1]}).encode(), "JSON text"),
    "base64 of a PNG": (base64.b64encode(encoded("PNG")), r"base64 text \(of a PNG file\).*decode it"),
    "base64 of a JPEG, in lines": (base64.encodebytes(encoded("JPEG")), r"base64 text \(of a JPEG file\)"),
    "base64 for URLs": (base64.urlsafe_b64encode(encoded("WEBP")), r"base64 text \(of a WebP file\)"),
    "a data: URL": (b"data:image/png;base64," + base64.b64encode(encoded("PNG")), "data: URL.*base64 text stands for"),
    "a URL": (b"https://example.org/a.png", "a URL.*download it"),
    "text": (b"seven", "is text"),
    "gzip": (gzip.compress(encoded("PNG")), "gzip data.*decompress it"),
    "an archive": (b"PK\3\4" + bytes(99), "ZIP archive"),
    "NumPy": (array_file(), "NumPy file.*raw pixels"),
    "a Mac's shadow file": (b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(99), "AppleDouble"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS.*git lfs pull"),
    "a PNG read as text": (encoded("PNG").decode(errors="replace").encode(), "decoded as text"),
    "a whole form": (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n', "a whole form"),
    "nothing": (b"", r"empty \(0 bytes\)"),
    "zero bytes": (bytes(999), "only zero bytes"),
    "the beginning of a JPEG": (b"\xff\xd8\xff\xe0", "starts like a JPEG file.*send the whole file"),
    "a TIFF without a directory": (b"II*\0\x08\0\0\0" + bytes(99), "starts like a TIFF file"),
    "the unknown": (bytes(range(128, 200)), "72 bytes of an unknown kind.*send PNG, JPEG"),
}


@pytest.mark.parametrize(("data", "said"), FILES.values(), ids=FILES)
def test_other_files_than_pictures_are_identified(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=f"(?s)^this .*{said}"):
        decode_file(data, MAX_PIXELS)


@pytest.mark.parametrize("head", [b"<", b"<!--", b"<!---->", b"<?xml ", b"<svg", b"{", b"[[", b"data:", b"--a", b"P"])
def test_a_name_is_found_in_time_that_does_not_grow_with_the_file(head: bytes) -> None:
    started_s = time.process_time()
    explain(head * (8 * 1024 * 1024 // len(head)))
    # Far more than it takes: backtracking over the whole would be hours.
    assert time.process_time() - started_s < 5
