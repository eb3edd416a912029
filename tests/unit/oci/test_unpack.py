"""Malicious layers cause an error, and use neither disk nor memory."""

import gzip
import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.oci.documents import Descriptor
from pixelserve.oci.unpack import Unpacker
from pixelserve.pull.errors import DamagedError, PullError, SourceFailed, UnsafeSourceError

TAR, GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip"
MIB = 1 << 20


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """Unpacks layers that hold the model `digits`; returns the files by path."""
    folder = tmp_path / "unpacked"
    folder.mkdir()

    def unpack(*layers: bytes, kind: str = TAR, max_bytes: int = 8 * MIB, **announced: Any) -> dict[str, bytes]:
        unpacker = Unpacker(folder, "digits", "oci:images", max_bytes)
        for layer in layers:
            honest = {"size": len(layer), "digest": f"sha256:{hashlib.sha256(layer).hexdigest()}"}
            descriptor = Descriptor(media_type=kind, **(honest | announced))
            unpacker.unpack(io.BytesIO(layer).read, descriptor, lambda _: None)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return unpack


WHOLE = (("models/digits/1/model.onnx", b"a model"), ("models/digits/labels.txt", b"one\n"))
FILES = {"1/model.onnx": b"a model", "labels.txt": b"one\n"}


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("kind", [TAR, GZIP])
def test_a_layer_of_a_model_is_unpacked(unpack: Callable[..., Any], prefix: str, kind: str) -> None:
    layer = tar(*((prefix + name, content) for name, content in WHOLE))
    assert unpack(gzip.compress(layer) if kind == GZIP else layer, kind=kind) == FILES


def test_entries_outside_the_model_are_skipped(unpack: Callable[..., Any]) -> None:
    """A base image holds links, devices and other folders; a file that begins with a dot is never looked at."""
    others = [special("bin", tarfile.SYMTYPE, "/usr/bin"), special("dev/null", tarfile.CHRTYPE)]
    base = tar(*others, ("etc/größe\n", b"any name"), ("models/letters/1/model.onnx", b"x"))
    assert unpack(base, tar(*WHOLE, ("models/digits/.git", b"x"))) == FILES


def test_a_later_layer_replaces_a_file(unpack: Callable[..., Any]) -> None:
    assert unpack(tar(("models/digits/labels.txt", b"old and longer\n")), tar(*WHOLE)) == FILES


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (("/models/digits/1/model.onnx", b"x"), "not the name of a file"),
        (("models/digits/../../../escaped", b"x"), "not the name of a file"),
        (("../escaped", b"x"), "not the name of a file"),
        (("models/digits/1/..\\escaped", b"x"), "not the name of a file"),
        (("models/digits/new\nline", b"x"), "not the name of a file"),
        ((f"models/digits/{'deep/' * 12}file", b"x"), "too deep"),
        ((("models/digits/.wh.labels.txt"), b""), "removes what a layer below has"),
        (special("models/digits/1/weights", tarfile.SYMTYPE, "/etc/passwd"), "neither a file nor a folder"),
        (
            special("models/digits/1/weights", tarfile.LNKTYPE, "models/digits/labels.txt"),
            "neither a file nor a folder",
        ),
        (special("models/digits/1/weights", tarfile.CHRTYPE), "neither a file nor a folder"),
        (special("models/digits/1/weights", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (special("models/digits", tarfile.SYMTYPE, "/etc"), "neither a file nor a folder"),
        (("models/digits/labels.txt/below", b"x"), "is a file and a folder"),
        (("models/digits/1", b"x"), "is a file and a folder"),
    ],
    # The same in every process.
    ids=lambda given: None if isinstance(given, tarfile.TarInfo) else str(given),
)
def test_an_unsafe_entry_is_refused(unpack: Callable[..., Any], tmp_path: Path, member: Any, problem: str) -> None:
    with pytest.raises(UnsafeSourceError, match=problem):
        unpack(tar(*WHOLE, member))
    assert {path.name for path in tmp_path.iterdir()} == {"unpacked"}


def pax_sparse() -> bytes:
    info = tarfile.TarInfo("models/digits/1/model.onnx")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    info.size = 512
    return tar(info)


def gnu_sparse() -> bytes:
    return tar(special("models/digits/1/model.onnx", tarfile.GNUTYPE_SPARSE), tar_format=tarfile.GNU_FORMAT)


@pytest.mark.parametrize("layer", [pax_sparse(), gnu_sparse()], ids=["pax", "gnu"])
def test_a_sparse_file_is_refused(unpack: Callable[..., Any], layer: bytes) -> None:
    with pytest.raises(DamagedError, match="a sparse file"):
        unpack(layer)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_header_costs_no_memory(unpack: Callable[..., Any], kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 64 * MIB
    layer = gzip.compress(info.tobuf() + bytes(64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="a header of 67,108,864 bytes"):
            unpack(layer, kind=GZIP, max_bytes=256 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


def test_a_bomb_stops_at_the_limit(unpack: Callable[..., Any], tmp_path: Path) -> None:
    """64 MiB of zeros are 64 KiB packed."""
    layer = gzip.compress(tar(("models/digits/1/model.onnx", bytes(64 * MIB))))
    assert len(layer) < MIB // 8
    with pytest.raises(UnsafeSourceError, match="unpacks to more than --max-mib"):
        unpack(layer, kind=GZIP, max_bytes=2 * MIB)
    assert (tmp_path / "unpacked" / "1" / "model.onnx").stat().st_size <= 2 * MIB


def test_the_limit_is_for_all_layers_together(unpack: Callable[..., Any]) -> None:
    layers = [tar((f"models/digits/{number}/model.onnx", bytes(MIB))) for number in (1, 2)]
    with pytest.raises(UnsafeSourceError, match="--max-mib"):
        unpack(*layers, max_bytes=2 * MIB)


def test_many_files_are_refused(unpack: Callable[..., Any]) -> None:
    with pytest.raises(UnsafeSourceError, match="more than 10,000 files"):
        unpack(tar(*((f"models/digits/1/{number}", b"") for number in range(10_001))), max_bytes=64 * MIB)


@pytest.mark.parametrize(
    ("announced", "error"),
    [
        ({"digest": f"sha256:{'ab' * 32}"}, DamagedError),
        ({"size": 100}, SourceFailed),
        ({"size": 1 << 30}, SourceFailed),
        ({"media_type": "application/vnd.oci.image.layer.v1.tar+zstd"}, DamagedError),
    ],
    ids=str,
)
def test_a_blob_that_is_not_what_was_announced_is_refused(
    unpack: Callable[..., Any], announced: dict[str, Any], error: type[PullError]
) -> None:
    kind = announced.pop("media_type", TAR)
    with pytest.raises(error, match="oci:images: "):
        unpack(tar(*WHOLE), kind=kind, **announced)


@pytest.mark.parametrize("kind", [TAR, GZIP])
@pytest.mark.parametrize(
    "layer",
    [b"not a layer" * 100, gzip.compress(b"not a tar" * 100), gzip.compress(tar(*WHOLE))[:-50], tar(*WHOLE)[:900]],
    ids=["not a layer", "not a tar", "half a layer", "half a tar"],
)
def test_an_invalid_layer_is_refused(unpack: Callable[..., Any], kind: str, layer: bytes) -> None:
    with pytest.raises(DamagedError, match="is not a layer"):
        unpack(layer, kind=kind)


def test_a_blob_that_never_ends_is_stopped_where_it_should_have(tmp_path: Path) -> None:
    """Whatever a server sends beyond a layer costs a chunk."""
    sent = 0

    def endless(count: int) -> bytes:
        nonlocal sent
        sent += count
        assert sent < 8 * MIB
        return bytes(count)

    descriptor = Descriptor(media_type=TAR, digest=f"sha256:{'ab' * 32}", size=10_240)
    with pytest.raises(SourceFailed, match="more bytes than announced"):
        Unpacker(tmp_path, "digits", "oci:images", 1 << 40).unpack(endless, descriptor, lambda _: None)


@pytest.mark.parametrize("size", [1 << 60, 1 << 33, -512])
@pytest.mark.parametrize("name", ["etc/passwd", "models/digits/1/model.onnx"])
def test_an_entry_of_an_impossible_size_ends_with_the_layer(unpack: Callable[..., Any], name: str, size: int) -> None:
    """The tar reader would skip it for hours."""
    info = tarfile.TarInfo(name)
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(PullError, match=r"not a layer"):
        unpack(header + bytes(4096))
