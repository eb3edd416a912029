"""Loaded models follow the repository, without interrupting serving."""

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve.oip import model_config_pb2 as pb
from pixelserve_server.deadline import Deadline
from pixelserve_server.errors import NotFound, RepositoryError, StartupError, Unavailable, Unloading
from pixelserve_server.repository.catalogue import Catalogue, State
from pixelserve_server.repository.changes import ChangeQueue
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Loader
from pixelserve_server.repository.manager import RepositoryManager
from pixelserve_server.repository.overlay import Override

Open = Callable[[Path], SimpleNamespace]
Write = Callable[..., Path]
PATIENCE_S = 30


@pytest.fixture
def repository(tmp_path: Path, model_writer: Write) -> Path:
    """Models `a` and `b`, each with version 1."""
    for name in ("a", "b"):
        model_writer(tmp_path / name / "1" / "model.onnx")
    return tmp_path


def served(it: SimpleNamespace) -> list[str]:
    return [f"{loaded.name}/{loaded.version}" for loaded in it.catalogue.all_ready()]


def test_nothing_is_loaded_again_where_nothing_has_changed(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    it.manager.refresh()
    it.manager.load("a").result()
    assert it.told.loaded == ["a/1", "b/1"]
    assert it.told.unloaded == it.told.replaced == []


def reload(it: SimpleNamespace, name: str = "") -> None:
    """Loads one model again, or all, and waits for it."""
    it.manager.reload(lambda loaded: name in ("", loaded.name))
    for each in it.catalogue.names():
        # Behind the reload, since a model's changes are made in order.
        it.manager.load(each).result(PATIENCE_S)


def test_models_are_loaded_again_from_the_same_files(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    before = it.catalogue.get("a")
    reload(it)
    assert it.told.loaded == ["a/1", "b/1", "a/1", "b/1"]
    assert it.told.replaced == ["a/1", "b/1"]
    assert it.told.unloaded == it.told.failed == []
    assert it.catalogue.get("a") is not before
    it.manager.refresh()
    assert it.told.loaded == ["a/1", "b/1", "a/1", "b/1"]


def test_every_version_that_is_served_is_loaded_again(
    tmp_path: Path, open_catalogue: Open, model_writer: Write
) -> None:
    for version in ("1", "2"):
        model_writer(tmp_path / "a" / version / "model.onnx")
    (tmp_path / "a" / "config.pbtxt").write_text("version_policy { all { } }")
    it = open_catalogue(tmp_path)
    reload(it)
    assert it.told.loaded == ["a/1", "a/2", "a/1", "a/2"]
    assert served(it) == ["a/1", "a/2"]


def test_files_that_came_with_a_load_are_loaded_again(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    it.manager.load("a", Override(pb.ModelConfig(max_batch_size=3))).result(PATIENCE_S)
    it.manager.reload(lambda loaded: loaded.name == "a")
    it.manager.load("b").result(PATIENCE_S)
    assert it.told.loaded == ["a/1", "b/1", "a/1", "a/1"]
    assert it.catalogue.get("a").config.batching.max_batch_size == 3


def test_an_unloaded_model_stays_unloaded(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    unloading = it.manager.unload("a")
    it.manager.reload(lambda loaded: True)
    unloading.result(PATIENCE_S)
    it.manager.load("b").result(PATIENCE_S)
    assert served(it) == ["b/1"]


def test_only_the_models_concerned_are_loaded_again(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    reload(it, "b")
    assert it.told.loaded == ["a/1", "b/1", "b/1"]


def test_a_version_whose_files_changed_is_not_loaded_again_before_it_is_asked_for(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    before = it.catalogue.get("a")
    model_writer(repository / "a" / "1" / "model.onnx", output="twice")
    it.manager.reload(lambda loaded: True)
    it.manager.load("b").result(PATIENCE_S)
    assert it.catalogue.get("a") is before
    assert it.told.loaded == ["a/1", "b/1", "b/1"]


@pytest.mark.parametrize("error", [RepositoryError("broken"), StartupError("no GPU"), RuntimeError("a surprise")])
def test_a_model_that_cannot_be_loaded_again_serves_as_before(
    repository: Path, open_catalogue: Open, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    it = open_catalogue(repository)
    before, load = it.catalogue.get("a"), Loader.load
    logged: list[BaseException] = []

    def fail(loader: Loader, folder: ModelFolder, version: int) -> LoadedVersion:
        if folder.name == "a":
            raise error
        return load(loader, folder, version)

    monkeypatch.setattr(Loader, "load", fail)
    keeper = it.manager._keeper
    monkeypatch.setattr(keeper, "_loader", replace(keeper._loader, log_failure=lambda failure: logged.append(failure)))
    it.manager.reload(lambda loaded: True)
    it.manager.load("b").result(PATIENCE_S)
    assert it.catalogue.get("a") is before
    assert it.catalogue.is_ready("a")
    assert [model for model, _ in it.told.failed] == ["a"]
    assert it.told.loaded == ["a/1", "b/1", "b/1"]
    assert logged == ([error] if isinstance(error, RuntimeError) else [])


def test_a_newer_version_takes_the_place_of_the_old_one(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    old = it.catalogue.get("a")
    model_writer(repository / "a" / "2" / "model.onnx")
    it.manager.refresh()
    assert served(it) == ["a/2", "b/1"]
    assert it.told.unloaded == ["a/1"]
    with pytest.raises(Unloading, match="a version 1 is being unloaded"):
        old.batcher.submit(SimpleNamespace())
    with pytest.raises(NotFound, match="model a has no version 1; it has 2"):
        it.catalogue.get("a", "1")


def test_a_version_whose_file_changed_is_swapped_in_one_step(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    before, generation = it.catalogue.get("a"), it.catalogue.generation
    model_writer(repository / "a" / "1" / "model.onnx", output="twice")
    it.manager.refresh()
    after = it.catalogue.get("a")
    assert after is not before
    assert [spec.name for spec in after.config.outputs] == ["twice"]
    assert it.told.replaced == ["a/1"]
    assert it.told.unloaded == []
    assert it.catalogue.generation > generation


def test_a_config_that_changed_counts_as_a_change_of_every_version(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    (repository / "a" / "config.pbtxt").write_text("max_batch_size: 3")
    it.manager.refresh()
    assert it.catalogue.get("a").config.batching.max_batch_size == 3
    assert it.told.replaced == ["a/1"]


def test_what_served_goes_on_where_its_successor_does_not_load(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    (repository / "a" / "2").mkdir()
    (repository / "a" / "2" / "model.onnx").write_bytes(b"damaged")
    (repository / "b" / "1" / "model.onnx").write_bytes(b"damaged")
    it.manager.refresh()
    assert served(it) == ["a/1", "b/1"]
    assert [model for model, _ in it.told.failed] == ["a", "b"]
    with pytest.raises(Unavailable, match=r"version 2 of model a failed to load: .*a/2/model"):
        it.catalogue.get("a", "2")
    assert it.catalogue.is_ready("a")


def test_the_index_says_why_the_files_on_disk_are_not_what_serves(
    repository: Path, open_catalogue: Open, model_writer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = open_catalogue(repository)

    def index() -> list[tuple[str, str, str]]:
        return [(each.version, each.state, each.reason) for each in it.catalogue.index() if each.model == "a"]

    assert index() == [("1", "READY", "")]
    model = repository / "a" / "1" / "model.onnx"
    model.write_bytes(b"damaged")
    it.manager.refresh()
    ((version, state, reason),) = index()
    assert (version, state) == ("1", "READY")
    assert reason.startswith(f"serves what was loaded before; the files on disk cannot be loaded: {model}: ")

    load, seen = Loader.load, []
    monkeypatch.setattr(Loader, "load", lambda *args: seen.extend(index()) or load(*args))
    model_writer(model)
    it.manager.refresh()
    assert seen == [("1", "READY", "serves what was loaded before; the files on disk are being loaded")]
    assert index() == [("1", "READY", "")]

    (repository / "a" / "config.pbtxt").write_text("max_batch_size: many")
    it.manager.refresh()
    assert [state for _, state, _ in index()] == ["UNAVAILABLE", "READY"]
    assert all("config.pbtxt:1: " in reason for _, _, reason in index())
    (repository / "a" / "config.pbtxt").unlink()
    (repository / "a" / "2").mkdir()
    it.manager.refresh()
    one, two = index()
    assert one == ("1", "READY", one[2])
    assert one[2].startswith("the version policy does not serve it any more; it serves until")
    assert two[:2] == ("2", "UNAVAILABLE")


def test_changed_files_are_reported_without_being_loaded(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    (repository / "a" / "config.pbtxt").touch()
    model_writer(repository / "a" / "2" / "model.onnx")
    assert it.manager.changed() == set()
    before = (repository / "a" / "config.pbtxt").read_text()
    for text in (before + " max_queue_delay: soon", "max_batch_size: 2"):
        (repository / "a" / "config.pbtxt").write_text(text)
        assert it.manager.changed() == {("a", 1)}
    (repository / "a" / "config.pbtxt").write_text(before)
    assert it.manager.changed() == set()
    model_writer(repository / "a" / "1" / "model.onnx", output="twice")
    assert it.manager.changed() == {("a", 1)}
    shutil.rmtree(repository / "b")
    assert it.manager.changed() == {("a", 1), ("b", 1)}
    assert it.told.loaded == ["a/1", "b/1"]
    (repository / "a" / "1" / "model.onnx").write_bytes(b"damaged")
    it.manager.load("a").result()
    # Version 2 serves now, and nothing of it has changed.
    assert it.manager.changed() == {("b", 1)}


def test_a_failed_load_is_tried_again_when_its_files_change_and_not_before(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    model = repository / "a" / "2" / "model.onnx"
    model.parent.mkdir()
    model.write_bytes(b"damaged")
    it = open_catalogue(repository)
    it.manager.refresh()
    assert len(it.told.failed) == 1
    model_writer(model)
    it.manager.refresh()
    assert served(it) == ["a/2", "b/1"]
    assert len(it.told.failed) == 1


def test_a_failed_load_is_tried_again_on_request(repository: Path, open_catalogue: Open) -> None:
    (repository / "a" / "1" / "model.onnx").write_bytes(b"damaged")
    it = open_catalogue(repository)
    (error,) = it.manager.load("a").result()
    assert str(repository / "a" / "1" / "model.onnx") in str(error)
    assert len(it.told.failed) == 2


def test_a_config_that_does_not_parse_leaves_what_serves_alone(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    config = repository / "a" / "config.pbtxt"
    config.write_text("max_batch_size: many")
    it.manager.refresh()
    it.manager.refresh()
    assert served(it) == ["a/1", "b/1"]
    ((model, reason),) = it.told.failed
    assert model == "a"
    assert f"{config}:1: " in reason
    config.write_text("max_batch_size: 5")
    it.manager.refresh()
    assert it.catalogue.get("a").config.batching.max_batch_size == 5
    assert it.catalogue.others("a") == []


def test_a_model_whose_folder_has_gone_is_unloaded(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    shutil.rmtree(repository / "a")
    it.manager.refresh()
    assert served(it) == ["b/1"]
    assert it.catalogue.names() == ["b"]


@pytest.mark.parametrize("gone", ["removed", "emptied"])
def test_a_repository_that_vanishes_takes_nothing_with_it(
    repository: Path, open_catalogue: Open, tmp_path: Path, gone: str
) -> None:
    it = open_catalogue(repository)
    for folder in list(repository.iterdir()):
        shutil.rmtree(folder)
    if gone == "removed":
        repository.rmdir()
    with pytest.raises(RepositoryError, match=str(repository)):
        it.manager.refresh()
    assert served(it) == ["a/1", "b/1"]


def test_a_model_is_unloaded_and_loaded_again_by_name(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    it.manager.unload("a").result()
    assert served(it) == ["b/1"]
    with pytest.raises(NotFound, match="no version of model a is ready: unloaded"):
        it.catalogue.get("a")
    assert it.manager.load("a").result() == []
    assert served(it) == ["a/1", "b/1"]


@pytest.mark.parametrize("name", ["", "none", "..", ".hidden", "a/1", "/etc"])
def test_no_name_leads_out_of_the_repository(repository: Path, open_catalogue: Open, name: str) -> None:
    (repository / ".hidden" / "1").mkdir(parents=True)
    it = open_catalogue(repository)
    with pytest.raises(NotFound, match="the repository has no model"):
        it.manager.load(name).result()
    with pytest.raises(NotFound, match="to unload"):
        it.manager.unload(name).result()


def test_a_fingerprint_differs_where_a_file_does(repository: Path, open_catalogue: Open) -> None:
    manager: Any = open_catalogue(repository).manager
    before = manager.fingerprint()
    assert manager.fingerprint() == before
    (repository / "a" / "1" / "card.json").write_text("{}")
    assert manager.fingerprint() != before


def test_a_link_that_leads_back_up_is_followed_once(repository: Path, open_catalogue: Open) -> None:
    (repository / "a" / "loop").symlink_to(repository / "a", target_is_directory=True)
    it = open_catalogue(repository)
    it.manager.refresh()
    assert it.told.loaded == ["a/1", "b/1"]


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), ZeroDivisionError("a bug"), MemoryError()], ids=repr
)
def test_whatever_a_model_raises_is_its_own_trouble_told_once_and_tried_again(
    repository: Path, open_catalogue: Open, model_writer: Write, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    it = open_catalogue(repository)
    logged: list[BaseException] = []
    it.manager._keeper._loader = replace(
        it.manager._keeper._loader, log_failure=lambda raised: logged.append(raised) or "ab12"
    )
    load = Loader.load

    def fail(loader: Loader, folder: ModelFolder, version: int) -> LoadedVersion:
        if folder.name == "a":
            raise error
        return load(loader, folder, version)

    model_writer(repository / "a" / "2" / "model.onnx")
    model_writer(repository / "b" / "2" / "model.onnx")
    with monkeypatch.context() as patched:
        patched.setattr(Loader, "load", fail)
        it.manager.refresh()
        assert served(it) == ["a/1", "b/2"]
        it.manager.refresh()
        assert len(it.told.failed) == 1
        assert str(error) in it.told.failed[0][1] if isinstance(error, OSError) else logged == [error]
        assert [status.state for _, status in it.catalogue.others("a")] == [State.UNAVAILABLE]
        # Asked by name, it gets the error again.
        assert [str(each) for each in it.manager.load("a").result()] == [it.told.failed[1][1]]
    it.manager.refresh()
    assert served(it) == ["a/2", "b/2"]


def test_a_listener_that_fails_changes_nothing_of_what_is_served(
    repository: Path, open_catalogue: Open, model_writer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = open_catalogue(repository)
    logged: list[BaseException] = []
    it.manager._keeper._loader = replace(
        it.manager._keeper._loader, log_failure=lambda raised: logged.append(raised) or "ab12"
    )

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    for event in ("on_loaded", "on_unloaded", "on_failed"):
        monkeypatch.setattr(it.told, event, fail)
    model_writer(repository / "a" / "2" / "model.onnx")
    (repository / "b" / "config.pbtxt").write_text("max_batch: 1")
    model_writer(repository / "c" / "1" / "model.onnx")
    it.manager.refresh()
    assert served(it) == ["a/2", "b/1", "c/1"]
    assert len(logged) == 4


def test_folders_that_are_no_models_are_passed_over_and_told_of_once(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    for name in ("lost+found", "@eaDir", "__MACOSX", "zip/deep/1", ".snapshot/1", "caf\udce9/1"):
        (repository / name).mkdir(parents=True)
    (repository / "._a").write_bytes(b"what a Mac leaves")
    (repository / "#recycle").write_bytes(b"a file")
    it = open_catalogue(repository)
    assert it.told.passed_over == ["@eaDir", "__MACOSX", "caf\udce9", "lost+found", "zip"]
    assert it.catalogue.names() == ["a", "b"]
    it.manager.refresh()
    assert len(it.told.passed_over) == 5
    with pytest.raises(NotFound, match=r"lost\+found.*holds no version folder and no config.pbtxt"):
        it.manager.load("lost+found").result()
    # A model that comes to be there is one.
    model_writer(repository / "zip" / "1" / "model.onnx")
    it.manager.refresh()
    assert it.catalogue.names() == ["a", "b", "zip"]


def test_a_folder_that_cannot_be_read_now_does_not_take_its_model_away(
    repository: Path, open_catalogue: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root, who may list everything, by a listing that fails."""
    it = open_catalogue(repository)
    listing = os.listdir

    def refuse(path: Any = ".") -> Any:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refuse)
        it.manager.refresh()
        assert it.manager.fingerprint() is not None
        assert it.told.passed_over == ["a"]
    assert served(it) == ["a/1", "b/1"]


def test_a_folder_that_is_emptied_for_its_next_version_does_not_take_its_model_away(
    repository: Path, open_catalogue: Open, model_writer: Write
) -> None:
    it = open_catalogue(repository)
    shutil.rmtree(repository / "a" / "1")
    it.manager.refresh()
    it.manager.refresh()
    assert served(it) == ["a/1", "b/1"]
    assert [name for name, _ in it.told.failed] == ["a"]
    assert "no version folder" in it.told.failed[0][1]
    assert it.told.passed_over == []
    model_writer(repository / "a" / "2" / "model.onnx")
    it.manager.refresh()
    assert served(it) == ["a/2", "b/1"]
    shutil.rmtree(repository / "a")
    it.manager.refresh()
    assert served(it) == ["b/1"]


def test_the_texts_of_all_models_are_read_before_any_is_loaded(
    repository: Path, open_catalogue: Open, loader: Loader, told: Any
) -> None:
    (repository / "b" / "config.pbtxt").write_text("max_batch: 8")
    manager = RepositoryManager(repository, Catalogue(), loader, told)
    (error,) = manager.load_all(stop_on_error=True)
    assert "ModelConfig has no max_batch" in str(error)
    assert told.loaded == []
    assert [name for name, _ in told.failed] == ["b"]
    (repository / "b" / "config.pbtxt").write_text(
        'output { name: "doubled" data_type: TYPE_FP32 dims: 4 label_filename: "labels.txt" }'
    )
    (error,) = manager.load_all(["a", "b"], stop_on_error=True)
    assert "labels.txt: cannot be read" in str(error)
    assert told.loaded == []


def test_a_load_that_never_ends_holds_up_neither_other_models_nor_looks(
    repository: Path, open_catalogue: Open, model_writer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeline: 1. a version loads forever; 2. another model's is loaded, by name and by a look; 3. that
    look leaves the first alone; 4. the end says that something still runs."""
    it = open_catalogue(repository)
    it.manager._changes = ChangeQueue(patience_s=0)
    load, begun, never = Loader.load, threading.Event(), threading.Event()

    def load_or_hang(loader: Loader, folder: ModelFolder, version: int) -> LoadedVersion:
        if folder.name == "a":
            begun.set()
            never.wait(PATIENCE_S)
        return load(loader, folder, version)

    monkeypatch.setattr(Loader, "load", load_or_hang)
    for name in ("a", "b"):
        model_writer(repository / name / "2" / "model.onnx")
    it.manager.refresh()
    assert begun.wait(PATIENCE_S)
    assert it.manager.load("b").result(PATIENCE_S) == []
    model_writer(repository / "b" / "3" / "model.onnx")
    it.manager.refresh()
    # After the loads that the poll started.
    assert it.manager.load("b").result(PATIENCE_S) == []
    assert it.manager._changes.is_changing("a")
    assert not it.manager._changes._waiting
    # The serving version continues, and reports the load.
    assert served(it) == ["a/1", "b/3"]
    assert [(version, status.state) for version, status in it.catalogue.others("a")] == [("2", State.LOADING)]
    assert not it.manager.stop(Deadline.after(PATIENCE_S))
    never.set()
