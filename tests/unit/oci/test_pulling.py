"""An image is pulled into a repository like a folder: whole and verified, or not at all."""

import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.oci import writing
from pixelserve.oci.documents import INDEX, MANIFEST, Blob, encoded
from pixelserve.pull.errors import ConflictError, DamagedError, PullError, SourceRefused, UsageError
from pixelserve.pull.mirror import Mirrored, Wanted, mirror

Write = Callable[..., writing.Written]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A repository that is not there yet."""
    return tmp_path / "target"


@pytest.fixture
def pull(layout: Path, target: Path) -> Callable[..., Mirrored]:
    """Pulls from the layout, or a URL, into the target."""
    return lambda url="", **wanted: mirror(Wanted(url or f"oci:{layout}", target, **wanted))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_pulled_image_is_the_version_that_was_written(
    write: Write, pull: Callable[..., Mirrored], repository: Path, target: Path
) -> None:
    written = write(2)
    pulled = pull()
    expected = {name: data for name, data in contents(repository / "digits").items() if not name.startswith("1/")}
    assert contents(target) == {f"digits/{name}": data for name, data in expected.items()}
    assert list(pulled.plan.versions) == [2]
    assert pulled.evidence[2].golden_samples == 2
    assert pulled.fetched_bytes == written.layer_bytes


def test_versions_of_one_model_come_one_by_one(write: Write, pull: Callable[..., Mirrored], target: Path) -> None:
    digests = [write(version).digest for version in (1, 2)]
    layout = write(1).pinned.partition("@")[0]
    for digest in digests:
        pull(f"{layout}@{digest}")
    assert {path.name for path in (target / "digits").iterdir()} == {"1", "2", "config.pbtxt", "labels.txt"}
    with pytest.raises(UsageError, match="holds 2 images; name one: digits-1, digits-2"):
        pull()
    assert pull(f"{layout}:digits-2").plan.versions == {2: "unchanged"}


def test_a_rollback_is_the_digest_before(write: Write, layout: Path, pull: Callable[..., Mirrored]) -> None:
    first = write(1, f"oci:{layout}:stable")
    write(2, f"oci:{layout}:stable")
    assert list(pull(f"oci:{layout}").plan.versions) == [2]
    assert list(pull(first.pinned).plan.versions) == [1]


def test_it_may_be_called_otherwise(write: Write, pull: Callable[..., Mirrored], target: Path) -> None:
    write()
    pull(name="numbers")
    assert 'name: "numbers"' in (target / "numbers" / "config.pbtxt").read_text()


def test_other_content_under_the_same_number_is_refused(
    write: Write, pull: Callable[..., Mirrored], repository: Path, target: Path, version_writer: Callable[..., Path]
) -> None:
    write()
    pull()
    shutil.rmtree(repository / "digits" / "1")
    version_writer(repository / "digits" / "1", b"another")
    write()
    before = contents(target)
    with pytest.raises(ConflictError, match="version 1 with other content"):
        pull()
    assert contents(target) == before
    assert pull(replace=True).plan.versions == {1: "replaced"}


def test_a_version_that_the_image_does_not_hold_is_refused(write: Write, pull: Callable[..., Mirrored]) -> None:
    write(2)
    with pytest.raises(SourceRefused, match="has no version 1; it has 2"):
        pull(versions=frozenset({1}))


def test_an_image_that_is_too_large_is_refused_before_it_is_read(
    write: Write, pull: Callable[..., Mirrored], target: Path
) -> None:
    write()
    with pytest.raises(PullError, match="--max-mib"):
        pull(max_bytes=512)
    assert not contents(target)


def _largest(layout: Path) -> Path:
    return max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("damage", ["changed", "shorter", "longer", "missing"])
def test_a_damaged_layer_changes_nothing(
    write: Write, pull: Callable[..., Mirrored], layout: Path, target: Path, damage: str
) -> None:
    write()
    blob = _largest(layout)
    data = blob.read_bytes()
    damaged = {"changed": data[:-2000] + b"x" + data[-1999:], "shorter": data[:-512], "longer": data + b"x"}
    blob.unlink() if damage == "missing" else blob.write_bytes(damaged[damage])
    with pytest.raises(PullError) as failed:
        pull()
    assert failed.value.exit_code in (1, 4, 6)
    assert list(target.iterdir()) == []


def test_a_damaged_index_is_refused(write: Write, pull: Callable[..., Mirrored], layout: Path, target: Path) -> None:
    written = write()
    blob = layout.joinpath("blobs", *written.digest.split(":"))
    blob.write_bytes(blob.read_bytes().replace(b"digits", b"DIGITS"))
    with pytest.raises(DamagedError, match="has other content"):
        pull()
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not an image"),
        ("[]", "not an image"),
        ("{}", "expected an OCI manifest with layers"),
        ('{"manifests": [{"digest": "sha256:../../etc", "size": 1}]}', r"manifests.0.digest"),
        ('{"manifests": [{"digest": "sha256:%s", "size": -1}]}' % ("ab" * 32), r"manifests.0.size"),
        ('{"manifests": []}', "holds 0 images"),
        ('{"layers": []}', "is not an index"),
    ],
)
def test_an_invalid_index_is_refused(
    pull: Callable[..., Mirrored], layout: Path, target: Path, text: str, problem: str
) -> None:
    layout.mkdir()
    (layout / "index.json").write_text(text)
    with pytest.raises(PullError, match=problem):
        pull()
    assert not target.exists()


def put(layout: Path, *documents: dict[str, Any]) -> str:
    """Puts documents into a layout, each of which lists the one before; returns the last one's digest."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    below: list[dict[str, Any]] = []
    for document in documents:
        blob = Blob(INDEX, encoded({**document, **({"manifests": below} if below else {})}))
        (blobs / blob.digest.removeprefix("sha256:")).write_bytes(blob.data)
        below = [blob.descriptor()]
    (layout / "index.json").write_text(json.dumps({"manifests": below}))
    return str(below[0]["digest"])


def test_indexes_in_indexes_end(pull: Callable[..., Mirrored], layout: Path) -> None:
    put(layout, {"mediaType": MANIFEST, "layers": []}, *({"mediaType": INDEX, "level": n} for n in range(9)))
    with pytest.raises(PullError, match="more indexes or layers"):
        pull()


def test_an_image_without_the_model_says_what_it_holds(
    write: Write, pull: Callable[..., Mirrored], layout: Path, document: Callable[[str], Any], tmp_path: Path
) -> None:
    """Images of other programs do not name their model; then the image's name counts, or --name."""
    manifest = document(document(write().digest)["manifests"][0]["digest"])
    foreign = tmp_path / "letters"
    shutil.copytree(layout, foreign)
    put(foreign, {key: value for key, value in manifest.items() if key != "annotations"})
    with pytest.raises(UsageError, match="/models holds digits, and not letters; choose with --name"):
        pull(f"oci:{foreign}")
    assert list(pull(f"oci:{foreign}", name="digits").plan.versions) == [1]


def test_a_folder_that_is_not_a_layout_is_refused(
    pull: Callable[..., Mirrored], repository: Path, target: Path
) -> None:
    with pytest.raises(SourceRefused, match="expected the folder of an OCI layout"):
        pull(f"oci:{repository}")
    assert not target.exists()


def test_of_several_platforms_this_machines_is_taken(
    write: Write, pull: Callable[..., Mirrored], layout: Path, document: Callable[[str], Any]
) -> None:
    """Other programs write an image for each, and some only one."""
    written = write()
    index = document(written.digest)
    mine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    fitting = next(each for each in index["manifests"] if each["platform"]["architecture"] == mine)
    missing = {**fitting, "digest": f"sha256:{'00' * 32}", "platform": {"architecture": "s390x", "os": "linux"}}
    (layout / "index.json").write_text(json.dumps({"manifests": [put_index(layout, missing, fitting)]}))
    assert list(pull().plan.versions) == [1]
    (layout / "index.json").write_text(json.dumps({"manifests": [put_index(layout, {**fitting, "platform": None})]}))
    assert pull().plan.versions == {1: "unchanged"}


def put_index(layout: Path, *manifests: dict[str, Any]) -> dict[str, Any]:
    blob = Blob(INDEX, encoded({"mediaType": INDEX, "manifests": manifests}))
    (layout / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")).write_bytes(blob.data)
    return blob.descriptor()
