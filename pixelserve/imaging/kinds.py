"""Identifies files that are not readable pictures by their first bytes, and suggests what to send instead."""

import base64
import binascii
import re

from .formats import FORMATS, NAMES

_HEAD_BYTES = 1024

_CONVERT = f"convert it to {NAMES}"
_FILES = (
    (b"8BPS", "a Photoshop file", _CONVERT),
    (b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _CONVERT),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _CONVERT),
    (b"\0\0\1\0", "an icon file (ICO)", _CONVERT),
    (b"qoif", "a QOI picture", _CONVERT),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", _CONVERT),
    (b"DDS ", "a DDS texture", _CONVERT),
    (b"gimp xcf", "a GIMP file", _CONVERT),
    (b"%PDF", "a PDF document", "send its pages as pictures"),
    (b"%!PS", "a PostScript file", _CONVERT),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file", _CONVERT),
    (b"\x1f\x8b", "gzip data", "decompress it"),
    (b"BZh", "bzip2 data", "decompress it"),
    (b"\xfd7zXZ\0", "xz data", "decompress it"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", "decompress it"),
    (b"PK\3\4", "a ZIP archive, or a document in one", "send the pictures in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "send the pictures in it"),
    (b"Rar!", "a RAR archive", "send the pictures in it"),
    (b"\x93NUMPY", "a NumPy file", "send its array as raw pixels"),
    (b"\x89HDF", "an HDF5 file", "send the pictures in it"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)", "send its frames as pictures"),
    (b"\0\0\1\xba", "a video (MPEG)", "send its frames as pictures"),
    (b"OggS", "audio or a video (Ogg)", "send pictures"),
    (b"ID3", "audio (MP3)", "send pictures"),
    (b"\0\5\x16\7", "the AppleDouble file that macOS writes beside another (._NAME)", "send the file NAME"),
    (b"version https://git-lfs", "a pointer of Git LFS, without the file", "run git lfs pull"),
    (b"\xef\xbf\xbd", "a file that was decoded as text, which destroys it", "read it and send it as bytes"),
)
# The brands of ISO media files other than AVIF.
_BRANDS = (
    (rb"hei[cxms]|hev[cxms]|mif1|msf1|heif", "a HEIC picture, as iPhones take them", "convert it to JPEG or AVIF"),
    (rb"crx ", "a camera's raw file (CR3)", "send it developed, as JPEG"),
    (rb"M4A ", "audio (MP4)", "send pictures"),
    (rb".*", "a video (MP4 or QuickTime)", "send its frames as pictures"),
)
_TEXTS = (
    (rb"data:[\w/+.;=-]*;base64,", "a data: URL", "send the bytes that its base64 text stands for"),
    (rb"data:", "a data: URL", "send the bytes that it stands for"),
    (rb"https?://", "a URL", "download it and send the file"),
    (rb"<!doctype html|<html|<head|<body", "an HTML page (an error page, perhaps)", "download the picture itself"),
    (rb"<[^\0]{0,1000}?<svg[\s/>]|<svg[\s/>]", "an SVG drawing", _CONVERT),
    (rb"<[?!a-z]", "XML text", f"send {NAMES}"),
    (rb"P[1-7]\s", "a Netpbm picture (PBM, PGM, PPM)", _CONVERT),
    (rb"--[^\r\n]+\r?\nContent-Disposition", "a whole form", "send it as multipart/form-data, or the file alone"),
    (rb'\{\s*["}]|\[[\s\["{\d-]', "JSON text", "send the bytes of an image file"),
)


def explain(data: bytes) -> str:
    """Returns a message that names an unreadable file's kind and what to do."""
    head = data[:_HEAD_BYTES]
    if not head.strip(b"\0"):
        what = "only zero bytes: its content was lost" if head else "empty (0 bytes)"
        return f"this file is {what}; send the whole file"
    if kind := _picture(head):
        bits = " with 8 or 16 bits per channel" if kind == "TIFF" else ""
        return f"this starts like a {kind} file but cannot be read as one; send the whole file, or save it again{bits}"
    what, remedy = _file(head) or _text(head) or (f"{len(data):,} bytes of an unknown kind", f"send {NAMES}")
    return f"this is {what}, which cannot be read as a picture; {remedy}"


def _picture(head: bytes) -> str | None:
    return next((each.name for each in FORMATS if each.begins(head)), None)


def _file(head: bytes) -> tuple[str, str] | None:
    if head[4:8] == b"ftyp":
        return next((what, remedy) for brand, what, remedy in _BRANDS if re.match(brand, head[8:12], re.DOTALL))
    if head[:4] == b"RIFF":
        return ("a video (AVI)", "send its frames as pictures") if head[8:12] == b"AVI " else ("audio", "send pictures")
    if head[:4] in (b"II*\0", b"MM\0*", b"IIRO", b"IIU\0"):
        return "a camera's raw file", "send it developed, as JPEG"
    if head[128:132] == b"DICM":
        return "a DICOM file", _CONVERT
    return next(((what, remedy) for magic, what, remedy in _FILES if head.startswith(magic)), None)


def _text(head: bytes) -> tuple[str, str] | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", "replace").encode()
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, what, remedy in _TEXTS:
        if re.match(pattern, start, re.IGNORECASE):
            return what, remedy
    if kind := _within_base64(start):
        return f"base64 text (of {kind})", "decode it, and send the bytes"
    # The last letter may be cut.
    is_utf8 = len(start.decode(errors="ignore").encode()) > len(start) - 4
    if is_utf8 and all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in start):
        return "text", f"send the bytes of an image file: {NAMES}"
    return None


def _within_base64(start: bytes) -> str | None:
    """Returns the kind of file in base64 text, or None if it is not base64 or of an unknown kind."""
    letters = b"".join(start.split()).translate(bytes.maketrans(b"-_", b"+/"))
    try:
        inside = base64.b64decode(letters[: len(letters) // 4 * 4], validate=True)
    except binascii.Error:
        return None
    if picture := _picture(inside):
        return f"a {picture} file"
    known = _file(inside)
    return known and known[0]
