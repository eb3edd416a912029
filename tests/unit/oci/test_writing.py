"""An image's contents, reproducible images, and atomic writes to a layout."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.oci import writing
from pixelserve.oci.annotations import VALUE_BYTES
from pixelserve.pull.errors import DamagedError, SourceFailed, SourceRefused, UnsafeSourceError, UsageError, WriteError
from pixelserve.pull.mirror import Wanted, mirror

Write = Callable[..., writing.Written]
ROOT = Path(__file__).resolve().parents[3]


def layer_of(layout: Path, document: Callable[[str], Any], written: writing.Written) -> tarfile.TarFile:
    manifest = document(document(written.digest)["manifests"][0]["digest"])
    return tarfile.open(layout.joinpath("blobs", *manifest["layers"][0]["digest"].split(":")))


def test_an_image_is_a_model_repository_with_one_version(
    write: Write, layout: Path, repository: Path, document: Callable[[str], Any]
) -> None:
    (repository / "digits" / "README").write_text("not named by config.pbtxt")
    (repository / "digits" / "1" / ".hidden").write_text("half copied")
    with layer_of(layout, document, write()) as layer:
        assert layer.getnames() == [
            *("models", "models/digits", "models/digits/1", "models/digits/1/card.json", "models/digits/1/golden.npz"),
            *("models/digits/1/model.onnx", "models/digits/config.pbtxt", "models/digits/labels.txt"),
        ]
        members = layer.getmembers()
        assert {(each.uid, each.gid, each.uname, each.gname, each.mtime) for each in members} == {(0, 0, "", "", 0)}
        assert {each.mode for each in members if each.isdir()} == {0o755}
        assert {each.mode for each in members if each.isfile()} == {0o644}
        for each in (each for each in members if each.isfile()):
            content = layer.extractfile(each)
            assert content is not None
            assert content.read() == (repository.parent / each.name).read_bytes()


def test_nodes_of_both_platforms_find_the_same_layer(write: Write, document: Callable[[str], Any]) -> None:
    manifests = document(write().digest)["manifests"]
    assert [each["platform"] for each in manifests] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    documents = [document(each["digest"]) for each in manifests]
    assert documents[0]["layers"] == documents[1]["layers"]
    configs = [document(each["config"]["digest"]) for each in documents]
    assert [each["architecture"] for each in configs] == ["amd64", "arm64"]
    assert configs[0]["rootfs"]["diff_ids"] == [documents[0]["layers"][0]["digest"]]


def test_annotations_hold_the_card_and_what_the_golden_samples_are(
    write: Write, repository: Path, document: Callable[[str], Any]
) -> None:
    written = write()
    version = repository / "digits" / "1"
    index = document(written.digest)
    noted = index["annotations"]
    assert all(document(each["digest"])["annotations"] == noted for each in index["manifests"])
    assert noted == written.annotations
    assert json.loads(noted["pixelserve.card"]) == json.loads((version / "card.json").read_bytes())
    assert noted["pixelserve.golden.sha256"] == hashlib.sha256((version / "golden.npz").read_bytes()).hexdigest()
    assert (noted["pixelserve.model"], noted["pixelserve.version"], noted["pixelserve.accuracy"]) == (
        "digits",
        "1",
        "0.97",
    )
    assert noted["pixelserve.sha256"] == hashlib.sha256(b"the first").hexdigest()
    assert json.loads(noted["pixelserve.labels"]) == ["one", "two", "three"]
    assert noted["org.opencontainers.image.created"] == "2026-01-02T03:04:05+00:00"


def test_every_annotation_is_documented(write: Write) -> None:
    docs = (ROOT / "docs" / "model-images.md").read_text()
    assert not [key for key in write().annotations if f"`{key}`" not in docs]


def test_a_value_that_is_too_long_for_an_annotation_is_left_out(write: Write, repository: Path) -> None:
    (repository / "digits" / "labels.txt").write_text("".join(f"class {each}\n" for each in range(VALUE_BYTES // 8)))
    noted = write().annotations
    assert "pixelserve.labels" not in noted
    assert sum(len(key) + len(value) for key, value in noted.items()) < VALUE_BYTES


def test_an_invalid_time_is_left_out(write: Write, repository: Path, version_writer: Callable[..., Path]) -> None:
    """Readers refuse an image whose configuration has another text there."""
    version_writer(repository / "digits" / "3", b"the third", created="on Monday")
    assert "org.opencontainers.image.created" not in write(3).annotations


@pytest.mark.slow
def test_the_digest_depends_on_the_files_only(repository: Path, layout: Path, tmp_path: Path) -> None:
    """Not on the umask, the files' times and modes, the locale, the time zone or the order of sets."""
    digests = []
    for number, (umask, locale, zone) in enumerate([(0o022, "C", "UTC"), (0o077, "C.UTF-8", "Asia/Tokyo")]):
        for path in repository.rglob("*"):
            os.utime(path, (number * 1e9, number * 1e9))
            path.chmod(0o700 if path.is_dir() else 0o600 + number * 0o44)
        env = {"LC_ALL": locale, "TZ": zone, "PYTHONHASHSEED": str(number), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-m", "pixelserve", "models", "image", "digits/1", "--to", f"oci:{layout}-{number}"]
        ran = subprocess.run(
            [*command, "--model-repository", repository],
            env=env,
            umask=umask,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        digests.append(ran.stdout.splitlines()[0])
    assert digests[0] == digests[1]
    files = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (Path(f"{layout}-0"), Path(f"{layout}-1"))
    ]
    assert files[0] == files[1]


def test_a_long_name_and_a_foreign_one_make_the_same_digest_twice(write: Write, repository: Path) -> None:
    weights = repository / "digits" / "1" / ("w" * 120)
    weights.mkdir()
    (weights / "größe.bin").write_bytes(b"weights")
    assert write().digest == write().digest


def test_another_version_has_another_digest(write: Write) -> None:
    first, second = write(1), write(2)
    assert first.digest != second.digest
    assert first.layer_bytes % 512 == second.layer_bytes % 512 == 0


def test_a_tag_moves_and_the_image_before_stays_for_a_rollback(write: Write, layout: Path) -> None:
    first = write(1, f"oci:{layout}:stable")
    second = write(2, f"oci:{layout}:stable")
    listed = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert [(each["digest"], "annotations" in each) for each in listed] == [
        (first.digest, False),
        (second.digest, True),
    ]
    again = write(1, f"oci:{layout}:stable")
    listed = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert [each["digest"] for each in listed] == [second.digest, first.digest]
    assert again.digest == first.digest
    assert again.pinned == f"oci:{layout}@{first.digest}"


def test_what_other_programs_wrote_into_a_layout_stays(write: Write, layout: Path) -> None:
    write(1)
    index = json.loads((layout / "index.json").read_bytes())
    foreign = {"mediaType": "application/xml", "digest": f"sha256:{'ab' * 32}", "size": 3, "data": "PHg+"}
    index["manifests"].append(foreign)
    (layout / "index.json").write_text(json.dumps(index))
    write(2)
    assert foreign in json.loads((layout / "index.json").read_bytes())["manifests"]


def test_writers_of_one_layout_take_turns(write: Write, layout: Path) -> None:
    threads = [threading.Thread(target=write, args=(1 + number % 2, f"oci:{layout}:t{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert {each["annotations"]["org.opencontainers.image.ref.name"] for each in listed} == {
        f"t{number}" for number in range(8)
    }
    assert not list(layout.rglob(".*"))


def test_a_failed_write_leaves_the_layout_unchanged(
    write: Write, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(1)
    before = {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    replaced = Path.replace

    def full(path: Path, target: Path) -> Path:
        if target.name == "index.json":
            raise OSError(28, "No space left on device", str(target))
        return replaced(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WriteError, match="No space left on device; no image was written"):
        write(2)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in before} == before
    assert not list(layout.rglob(".*"))


def test_a_file_that_changes_while_it_is_read_is_noticed(
    write: Write, layout: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = writing.make_image

    def changed(contents: Any) -> Any:
        image = made(contents)
        (repository / "digits" / "1" / "model.onnx").write_bytes(b"the worst")
        return image

    monkeypatch.setattr(writing, "make_image", changed)
    with pytest.raises(SourceFailed, match="changed while they were read"):
        write()
    assert not (layout / "index.json").exists()


def test_a_version_that_is_not_its_cards_is_not_written(write: Write, layout: Path, repository: Path) -> None:
    (repository / "digits" / "1" / "model.onnx").write_bytes(b"another")
    with pytest.raises(DamagedError, match=r"SHA-256 is .* its card says"):
        write()
    assert not layout.exists()


def test_a_link_that_leads_out_of_the_model_is_not_written(
    write: Write, layout: Path, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (repository / "digits" / "1" / "more").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeSourceError, match="leads out of"):
        write()
    assert not layout.exists()


@pytest.mark.parametrize(
    ("to", "error", "problem"),
    [
        ("oci:{layout}@sha256:" + "ab" * 32, UsageError, "a digest is computed, not given"),
        ("oci://registry.example.org/digits", UsageError, "needs a tag, such as oci://registry.example.org/digits:1"),
        ("oci:{repository}", UsageError, "holds digits and no index.json: not an OCI layout"),
        ("{layout}", UsageError, "does not name an image"),
        ("oci:{repository}/digits/labels.txt", WriteError, "File exists"),
    ],
)
def test_an_invalid_target_is_refused(
    write: Write, layout: Path, repository: Path, to: str, error: type[Exception], problem: str
) -> None:
    before = sorted(repository.rglob("*"))
    with pytest.raises(error, match=problem):
        write(1, to.format(layout=layout, repository=repository))
    assert sorted(repository.rglob("*")) == before


def test_a_version_that_is_not_there_is_named(write: Write, repository: Path) -> None:
    with pytest.raises(SourceRefused, match="has no version 9; it has 1, 2"):
        write(9)
    with pytest.raises(SourceRefused, match="has no model letters"):
        writing.write(repository, "letters", 1, "oci:x", on_wait=lambda: None)
    with pytest.raises(UsageError, match="expected letters, digits"):
        writing.write(repository, "../models/digits", 1, "oci:x", on_wait=lambda: None)


def test_the_files_of_a_warm_up_are_in_the_image_if_config_pbtxt_names_them(
    write: Write, layout: Path, repository: Path, document: Callable[[str], Any]
) -> None:
    model = repository / "digits"
    warmup = 'model_warmup { name: "one" inputs { key: "image" value { input_data_file: "image" } } }'
    with (model / "config.pbtxt").open("a") as file:
        file.write(warmup)
    with pytest.raises(DamagedError, match="names the file image for model_warmup, which is not in warmup/"):
        write()
    (model / "warmup").mkdir()
    for name in ("image", "other"):
        (model / "warmup" / name).write_text("pixels")
    with layer_of(layout, document, write()) as layer:
        assert [name for name in layer.getnames() if "warmup" in name] == [
            *("models/digits/warmup", "models/digits/warmup/image"),
        ]
    mirror(Wanted(f"oci:{layout}", repository.parent / "target"))
    assert (repository.parent / "target" / "digits" / "warmup" / "image").read_text() == "pixels"
