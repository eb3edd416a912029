"""The serving version, and the states of the others."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pixelserve_server.errors import InvalidRequest, NotFound, RepositoryError, Unavailable

Open = Callable[[Path], SimpleNamespace]
Write = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path, model_writer: Write) -> Path:
    """Model `many` with versions 1, 2, 9, 10 and a damaged 3, all served; model `one` with version 1."""
    for version in (1, 2, 9, 10):
        model_writer(tmp_path / "many" / str(version) / "model.onnx")
    (tmp_path / "many" / "3").mkdir()
    (tmp_path / "many" / "3" / "model.onnx").write_bytes(b"damaged")
    (tmp_path / "many" / "config.pbtxt").write_text("max_batch_size: 8 version_policy { all { } }")
    model_writer(tmp_path / "one" / "1" / "model.onnx")
    return tmp_path


def test_every_version_is_reported_once_loaded_or_failed(repository: Path, open_catalogue: Open) -> None:
    it = open_catalogue(repository)
    assert it.loaded == ["many/1", "many/2", "many/9", "many/10", "one/1"]
    ((model, reason),) = it.failed
    assert model == "many"
    assert str(repository / "many" / "3" / "model.onnx") in reason


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        pytest.param("many", "", 10, id="the highest number, not the last in the alphabet"),
        pytest.param("many", "2", 2, id="the one named"),
        pytest.param("one", "", 1, id="the only one"),
    ],
)
def test_a_request_gets_the_version_named_or_the_highest(
    repository: Path, open_catalogue: Open, name: str, version: str, found: int
) -> None:
    catalogue = open_catalogue(repository).catalogue
    loaded = catalogue.get(name, version)
    assert (loaded.name, loaded.version) == (name, found)
    assert catalogue.is_ready(name, version)


@pytest.mark.parametrize(
    ("name", "version", "error", "said"),
    [
        pytest.param("none", "", NotFound, 'no model "none"; this server has many, one', id="unknown model"),
        pytest.param("", "", NotFound, 'no model ""; this server has many, one', id="no model named"),
        pytest.param("none", "x", NotFound, 'no model "none"', id="unknown model before bad version"),
        pytest.param("many", "4", NotFound, "many has no version 4; it has 1, 2, 9, 10", id="unknown version"),
        pytest.param("many", "3", Unavailable, "version 3 of model many failed to load: .*damaged", id="failed"),
    ],
)
def test_what_is_not_served_is_not_ready_and_says_why(
    repository: Path, open_catalogue: Open, name: str, version: str, error: type[Exception], said: str
) -> None:
    catalogue = open_catalogue(repository).catalogue
    with pytest.raises(error, match=said):
        catalogue.get(name, version)
    assert not catalogue.is_ready(name, version)


@pytest.mark.parametrize(
    "version",
    [
        *("0", "-1", "01", "1.0", "latest", " 1", "+1"),
        pytest.param("1\n", id="a line end"),
        pytest.param("\u0661", id="an Arabic digit"),
        pytest.param("9" * 5000, id="5000 digits"),
    ],
)
def test_a_version_is_a_positive_integer(repository: Path, open_catalogue: Open, version: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a positive integer"):
        open_catalogue(repository).catalogue.get("one", version)


def test_a_model_without_a_ready_version_is_not_found_and_the_others_are_served(
    repository: Path, open_catalogue: Open
) -> None:
    (repository / "one" / "1" / "model.onnx").write_bytes(b"damaged")
    catalogue = open_catalogue(repository).catalogue
    with pytest.raises(NotFound, match="no version of model one is ready"):
        catalogue.get("one")
    with pytest.raises(Unavailable, match="version 1 of model one failed to load"):
        catalogue.get("one", "1")
    assert catalogue.get("many").version == 10
    assert catalogue.names() == ["many", "one"]
    assert catalogue.ready_versions("one") == []


def test_ready_versions_come_lowest_first(repository: Path, open_catalogue: Open) -> None:
    catalogue = open_catalogue(repository).catalogue
    assert [loaded.version for loaded in catalogue.ready_versions("many")] == [1, 2, 9, 10]
    assert catalogue.ready_versions("none") == []


def test_a_long_list_of_models_is_cut_short_in_a_message(
    tmp_path: Path, model_writer: Write, open_catalogue: Open
) -> None:
    for index in range(12):
        model_writer(tmp_path / f"m{index:02}" / "1" / "model.onnx")
    with pytest.raises(NotFound, match=r"has m00, .*, m09 and 2 more$"):
        open_catalogue(tmp_path).catalogue.get("none")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param("empty", "no version folder; expected .*empty/1 with the model in it", id="no version"),
        pytest.param("zero/01", "no version folder", id="a leading zero"),
        pytest.param("words/latest", "no version folder", id="no number"),
    ],
)
def test_a_model_folder_without_a_version_fails(
    tmp_path: Path, open_catalogue: Open, model_writer: Write, entry: str, said: str
) -> None:
    model_writer(tmp_path / "good" / "1" / "model.onnx")
    (tmp_path / entry).mkdir(parents=True)
    # Without it, nothing says that a model is meant.
    (tmp_path / entry.partition("/")[0] / "config.pbtxt").write_text("max_batch_size: 8")
    it = open_catalogue(tmp_path)
    ((model, reason),) = it.failed
    assert model == entry.partition("/")[0]
    assert re.search(said, reason)
    assert it.loaded == ["good/1"]


def test_a_version_policy_that_serves_nothing_fails(repository: Path, open_catalogue: Open) -> None:
    (repository / "one" / "config.pbtxt").write_text("version_policy { specific { versions: [ 7 ] } }")
    it = open_catalogue(repository)
    assert it.failed[-1][0] == "one"
    assert it.failed[-1][1].endswith(
        "serves none of the versions on disk: [1]; write: version_policy { specific { versions: [ 1 ] } }"
    )


def test_hidden_folders_and_files_are_no_models(tmp_path: Path, model_writer: Write, open_catalogue: Open) -> None:
    model_writer(tmp_path / "good" / "1" / "model.onnx")
    model_writer(tmp_path / ".half-written" / "1" / "model.onnx")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "good" / "2").write_text("a file is no version")
    (tmp_path / "good" / ".3").mkdir()
    assert open_catalogue(tmp_path).loaded == ["good/1"]


def test_a_repository_that_is_missing_or_empty_is_an_error(tmp_path: Path, open_catalogue: Open) -> None:
    with pytest.raises(RepositoryError, match=r"missing: No such file or directory; .*--model-repository"):
        open_catalogue(tmp_path / "missing")
    with pytest.raises(RepositoryError, match="holds no model; expected"):
        open_catalogue(tmp_path)
