"""Files in a load request replace the repository's files, and leave nothing behind."""

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from pixelserve.oip import model_config_pb2 as pb
from pixelserve_server.deadline import Deadline
from pixelserve_server.errors import InvalidRequest, NotFound, RepositoryError
from pixelserve_server.repository.overlay import Overlays, Override, read_override

Open = Callable[[Path], SimpleNamespace]
Write = Callable[..., Path]
SMALL = Override(pb.ModelConfig(max_batch_size=2))


@pytest.fixture
def repository(tmp_path: Path, model_writer: Write) -> Path:
    """Model `a` with version 1."""
    model_writer(tmp_path / "models" / "a" / "1" / "model.onnx")
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sent files."""
    path = tmp_path / "kept"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def folders(kept: Path) -> list[Path]:
    """Returns the folders that are kept of all servers."""
    return [path for server in kept.iterdir() for path in server.iterdir() if path.is_dir()]


def limit(it: SimpleNamespace) -> int:
    return int(it.catalogue.get("a").config.batching.max_batch_size)


def test_a_configuration_takes_the_place_of_the_one_on_disk(repository: Path, open_catalogue: Open, kept: Path) -> None:
    it = open_catalogue(repository)
    assert it.manager.load("a", SMALL).result() == []
    assert limit(it) == 2
    assert it.told.replaced == ["a/1"]
    assert it.manager.load("a").result() == []
    assert limit(it) == 64
    assert folders(kept) == []
    assert not (repository / "a" / "config.pbtxt").exists()


def test_files_take_the_place_of_all_others(repository: Path, open_catalogue: Open, model_writer: Write) -> None:
    it = open_catalogue(repository)
    content = model_writer(repository.parent / "other" / "5" / "model.onnx", output="twice").read_bytes()
    it.manager.load("a", Override(SMALL.config, {PurePosixPath("5/model.onnx"): content})).result()
    assert [(loaded.version, loaded.config.outputs[0].name) for loaded in it.catalogue.ready_versions("a")] == [
        (5, "twice")
    ]


def test_what_cannot_be_loaded_changes_nothing_and_is_not_kept(
    repository: Path, open_catalogue: Open, kept: Path
) -> None:
    it = open_catalogue(repository)
    it.manager.load("a", SMALL).result()
    for _ in range(3):
        (error,) = it.manager.load("a", Override(SMALL.config, {PurePosixPath("5/model.onnx"): b"damaged"})).result()
        assert "5/model.onnx" in str(error)
    # The serving files still exist, to be loaded again if the session breaks.
    assert it.catalogue.get("a").folder.version_path(1).is_dir()
    assert len(folders(kept)) == 1
    assert it.manager.load("a").result() == []
    assert folders(kept) == []


def test_each_load_takes_the_place_of_the_one_before(
    repository: Path, open_catalogue: Open, kept: Path, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    content = model_writer(repository.parent / "other" / "5" / "model.onnx").read_bytes()
    for version in (5, 6, 7):
        assert (
            it.manager.load("a", Override(SMALL.config, {PurePosixPath(f"{version}/model.onnx"): content})).result()
            == []
        )
        assert [path.name for path in folders(kept)[0].joinpath("a").iterdir() if path.is_dir()] == [str(version)]
        assert len(folders(kept)) == 1


def test_the_bytes_that_are_kept_are_bounded(
    repository: Path, open_catalogue: Open, kept: Path, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    content = model_writer(repository.parent / "other" / "5" / "model.onnx").read_bytes()
    files = Override(pb.ModelConfig(), {PurePosixPath("1/model.onnx"): content})
    it.manager._overlays = Overlays(2 * len(content))
    for name in ("b", "c"):
        assert it.manager.load(name, files).result() == []
    said = f"d: .* have {len(content)} bytes, and {2 * len(content)} are kept of others; at most {2 * len(content)} are"
    for name in ("d", "b"):
        with pytest.raises(RepositoryError, match=said.replace("d:", f"{name}:")):
            it.manager.load(name, files).result()
    assert it.catalogue.is_ready("b")
    it.manager.unload("c").result()
    assert it.manager.load("d", files).result() == []
    assert len(folders(kept)) == 2


def test_the_number_of_folders_that_are_kept_is_bounded(repository: Path, kept: Path) -> None:
    overlays = Overlays(0)
    for _ in range(1000):
        overlays.make(repository, "a", SMALL)
    with pytest.raises(RepositoryError, match="1,000 models are loaded with a configuration or files"):
        overlays.make(repository, "a", SMALL)
    overlays.close()
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("how", ["unload", "close"])
def test_what_was_sent_goes_with_the_model(repository: Path, open_catalogue: Open, kept: Path, how: str) -> None:
    it = open_catalogue(repository)
    it.manager.load("a", SMALL).result()
    assert len(folders(kept)) == 1
    it.manager.unload("a").result() if how == "unload" else it.manager.stop(Deadline.after(20))
    assert folders(kept) == []


def test_a_folder_that_the_disk_did_not_take_whole_is_removed(
    repository: Path, open_catalogue: Open, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = open_catalogue(repository)

    def write_half(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(RepositoryError, match=r"cannot be stored: .* No space left on device; make room"):
        it.manager.load("a", Override(SMALL.config, {PurePosixPath("5/model.onnx"): b"whole"})).result()
    assert folders(kept) == []


def test_a_disk_that_does_not_take_it(repository: Path, open_catalogue: Open, kept: Path) -> None:
    it = open_catalogue(repository)
    kept.rmdir()
    with pytest.raises(RepositoryError, match="the files of the load request cannot be stored"):
        it.manager.load("a", SMALL).result()
    assert limit(it) == 64


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", "a\0b", "x" * 256], ids=ascii)
def test_an_invalid_folder_name(repository: Path, open_catalogue: Open, name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the name of a folder"):
        open_catalogue(repository).manager.load(name, SMALL).result()


def test_a_configuration_alone_needs_a_model(repository: Path, open_catalogue: Open) -> None:
    with pytest.raises(NotFound, match='no model "none"'):
        open_catalogue(repository).manager.load("none", SMALL).result()


@pytest.mark.parametrize(
    "path",
    [
        "1/a\0b",
        "1/" + "x" * 256,
        "",
        "..",
        "../a",
        "1/../../a",
        "/etc/passwd",
        "1//model.onnx",
        "./model.onnx",
        "1/2/3/4",
        "config.pbtxt",
        "1/",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a path in the model's folder"):
        read_override("{}", {path: b""})


def test_an_empty_override_is_ignored() -> None:
    assert read_override(None, {}) is None


def test_a_configuration_or_a_number_of_files_that_no_model_has_is_refused() -> None:
    with pytest.raises(InvalidRequest, match='"config" has 262,147 characters; at most 262,144 are accepted'):
        read_override('{"name": "' + "x" * 262_135 + '"}', {})
    with pytest.raises(InvalidRequest, match=r"1,001 load parameters .* at most 1,000 are accepted"):
        read_override("{}", {f"1/{number}": b"" for number in range(1001)})


@pytest.mark.parametrize("config", ["[]", '""', "null", "", "[[]]"])
def test_a_configuration_that_is_not_a_json_object_is_refused(config: str) -> None:
    with pytest.raises(InvalidRequest, match=r'"config" is not a JSON object: expected a ModelConfig, received'):
        read_override(config, {})


def test_a_configuration_may_begin_with_white_space() -> None:
    sent = read_override('\n {"max_batch_size": 2}', {})
    assert sent is not None
    assert sent.config.max_batch_size == 2
