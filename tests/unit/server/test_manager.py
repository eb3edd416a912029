"""What is loaded follows what lies in the repository, and nothing that serves is lost on the way."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.errors import NotFound, RepositoryError, Unavailable, Unloading

Open = Callable[[Path], SimpleNamespace]
Write = Callable[..., Path]


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
    it.manager.load("a")
    assert it.told.loaded == ["a/1", "b/1"]
    assert it.told.unloaded == it.told.replaced == []


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


def test_a_failed_load_is_tried_again_when_somebody_asks_for_it(repository: Path, open_catalogue: Open) -> None:
    (repository / "a" / "1" / "model.onnx").write_bytes(b"damaged")
    it = open_catalogue(repository)
    (error,) = it.manager.load("a")
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
    it.manager.unload("a")
    assert served(it) == ["b/1"]
    with pytest.raises(NotFound, match="no version of model a is ready: unloaded"):
        it.catalogue.get("a")
    assert it.manager.load("a") == []
    assert served(it) == ["a/1", "b/1"]


@pytest.mark.parametrize("name", ["", "none", "..", ".hidden", "a/1", "/etc"])
def test_no_name_leads_out_of_the_repository(repository: Path, open_catalogue: Open, name: str) -> None:
    (repository / ".hidden" / "1").mkdir(parents=True)
    it = open_catalogue(repository)
    with pytest.raises(NotFound, match="the repository has no model"):
        it.manager.load(name)
    with pytest.raises(NotFound, match="to unload"):
        it.manager.unload(name)


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


def test_what_nobody_expected_is_tried_again_with_the_next_look(
    repository: Path, open_catalogue: Open, model_writer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = open_catalogue(repository)
    model_writer(repository / "a" / "2" / "model.onnx")

    def fail(*_: object) -> None:
        raise MemoryError("as it was told")

    with monkeypatch.context() as patched:
        patched.setattr(type(it.manager._loader), "load", fail)
        with pytest.raises(MemoryError):
            it.manager.refresh()
    assert served(it) == ["a/1", "b/1"]
    it.manager.refresh()
    assert served(it) == ["a/2", "b/1"]
