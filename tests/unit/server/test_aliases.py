"""Aliases choose the serving version, and move without reloading anything."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.api.plan import find_version
from pixelserve_server.errors import InvalidRequest, NotFound, RequestError, Unavailable
from pixelserve_server.repository.aliases import as_text
from pixelserve_server.repository.catalogue import Catalogue

Open = Callable[[Path], SimpleNamespace]
Write = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path, model_writer: Write) -> Path:
    """Model `a` with versions 1, 2 and 3, of which the policy serves the last."""
    for version in (1, 2, 3):
        model_writer(tmp_path / "a" / str(version) / "model.onnx")
    return tmp_path


def name_versions(repository: Path, *more: str, **aliases: int) -> None:
    lines = [as_text(alias, version) for alias, version in aliases.items()]
    (repository / "a" / "config.pbtxt").write_text("\n".join(["max_batch_size: 8", *lines, *more]))


def answering(catalogue: Catalogue, alias: str | None = None, version: str = "") -> int:
    parameters = {} if alias is None else {"pixelserve_alias": SimpleNamespace(string_param=alias)}
    head: Any = SimpleNamespace(model_name="a", model_version=version, parameters=parameters)
    return find_version(head, catalogue).version


def test_versions_with_names_are_served_beside_those_of_the_policy(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, stable=1, candidate=2)
    catalogue = open_catalogue(repository).catalogue
    assert [loaded.version for loaded in catalogue.ready_versions("a")] == [1, 2, 3]


def test_who_answers(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, stable=1, candidate=2)
    catalogue = open_catalogue(repository).catalogue
    assert answering(catalogue) == 1
    assert answering(catalogue, "stable") == 1
    assert answering(catalogue, "candidate") == 2
    assert answering(catalogue, version="3") == 3


def test_without_a_stable_version_the_highest_answers(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, candidate=2)
    assert answering(open_catalogue(repository).catalogue) == 3


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        pytest.param({"alias": "previous"}, NotFound, r'no version called "previous"; it has stable \(1\)', id="unset"),
        pytest.param({"alias": ""}, NotFound, 'no version called ""', id="empty"),
        pytest.param({"alias": "stable", "version": "1"}, InvalidRequest, "send one of them", id="both"),
    ],
)
def test_an_alias_that_names_nothing(
    repository: Path, open_catalogue: Open, asked: dict[str, str], error: type[RequestError], said: str
) -> None:
    name_versions(repository, stable=1)
    with pytest.raises(error, match=said):
        answering(open_catalogue(repository).catalogue, **asked)


def test_an_alias_of_an_unknown_model(repository: Path, open_catalogue: Open) -> None:
    with pytest.raises(NotFound, match='there is no model "none"'):
        open_catalogue(repository).catalogue.get_alias("none", "stable")


def test_a_name_moves_without_a_load(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, stable=1, candidate=2)
    it = open_catalogue(repository)
    generation = it.catalogue.generation
    name_versions(repository, stable=2, candidate=2, previous=1)
    it.manager.refresh()
    assert answering(it.catalogue) == 2
    assert answering(it.catalogue, "previous") == 1
    # Or requests that came before would go on to the old one.
    assert it.catalogue.generation > generation
    assert it.loaded == ["a/1", "a/2", "a/3"]
    assert it.told.unloaded == it.told.replaced == []


def test_whatever_else_changes_in_the_config_is_loaded(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, stable=1)
    it = open_catalogue(repository)
    name_versions(repository, "dynamic_batching { }", stable=1)
    it.manager.refresh()
    assert it.told.replaced == ["a/1", "a/3"]
    assert it.catalogue.get("a").config.batching.merge


def test_a_version_that_loses_its_name_leaves(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, stable=1, candidate=2)
    it = open_catalogue(repository)
    name_versions(repository, stable=1)
    it.manager.refresh()
    assert it.told.unloaded == ["a/2"]
    with pytest.raises(NotFound, match="candidate"):
        answering(it.catalogue, "candidate")


@pytest.mark.parametrize("version", ["4", "0", "01", "two", ""])
def test_a_name_for_what_is_not_there_changes_nothing(repository: Path, open_catalogue: Open, version: str) -> None:
    name_versions(repository, stable=1)
    it = open_catalogue(repository)
    name_versions(repository, f'parameters {{ key: "stable" value {{ string_value: "{version}" }} }}')
    it.manager.refresh()
    ((_, reason),) = it.failed
    assert (
        f'parameter stable is "{version}"; expected one of the versions on disk: 1, 2, 3; write: parameters' in reason
    )
    assert answering(it.catalogue) == 1


def test_a_name_stays_where_its_new_version_does_not_load(repository: Path, open_catalogue: Open) -> None:
    name_versions(repository, stable=1)
    it = open_catalogue(repository)
    (repository / "a" / "2" / "model.onnx").write_bytes(b"damaged")
    name_versions(repository, stable=2, previous=1)
    it.manager.refresh()
    assert len(it.failed) == 1
    assert answering(it.catalogue) == 1


def test_no_version_stands_in_for_a_stable_version_that_never_loaded(repository: Path, open_catalogue: Open) -> None:
    (repository / "a" / "1" / "model.onnx").write_bytes(b"damaged")
    name_versions(repository, stable=1)
    catalogue = open_catalogue(repository).catalogue
    with pytest.raises(Unavailable, match="version 1 of model a failed to load"):
        answering(catalogue)
    assert not catalogue.is_ready("a")
    assert answering(catalogue, version="3") == 3
