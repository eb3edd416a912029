"""Before serving, a version shows that images still decode as at export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.card import Card, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve.golden_picture import GoldenPicture, write_golden_picture
from pixelserve.imaging import fit
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.golden import make
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.tools.strays import beside_model

Load = Callable[..., LoadedVersion]
TAKEN = Input((3, 24, 24), "float32")
LINE = "fit=crop mean=0.4914008 std=0.25"


def declare(folder: ModelFolder, line: str | None, more: str = "") -> None:
    picture = "" if line is None else f'parameters {{ key: "picture" value {{ string_value: "{line}" }} }}'
    folder.config_file.write_text(f"max_batch_size: 8 dynamic_batching {{ }} {picture} {more}")


@pytest.fixture
def folder(tmp_path: Path, graph_writer: Callable[..., Path]) -> ModelFolder:
    """A model whose scores are the means of a picture's channels, exported with its evidence."""
    folder = ModelFolder(tmp_path / "means")
    version = folder.version_path(1)
    graph_writer(
        version / "model.onnx",
        {"pixels": ("FLOAT", ["N", *TAKEN.dims])},
        {"scores": ("FLOAT", ["N", 3])},
        ("ReduceMean", "pixels", "scores"),
        axes=[2, 3],
        keepdims=0,
    )
    declare(folder, LINE)
    write_card(folder)
    samples = np.random.default_rng(0).random((2, *TAKEN.dims), np.float32)
    write_golden(version / "golden.npz", Golden({"pixels": samples}, {"scores": samples.mean(axis=(2, 3))}))
    golden = make(parse(LINE, TAKEN))
    assert golden is not None
    write_golden_picture(version / "golden-picture.npz", golden)
    return folder


def write_card(folder: ModelFolder, picture: str | None = str(parse(LINE, TAKEN))) -> None:
    version = folder.version_path(1)
    digest = sha256_of(version / "model.onnx")
    Card(name="means", task="image", sha256=digest, created="2026-01-02T03:04:05Z", picture=picture).write(
        version / "card.json"
    )


def golden_file(folder: ModelFolder) -> Path:
    return folder.version_path(1) / "golden-picture.npz"


def test_the_golden_picture_is_a_known_file_of_a_version(folder: ModelFolder) -> None:
    assert list(beside_model(folder.version_path(1), "model.onnx")) == []


def test_a_version_that_reproduces_its_golden_picture_says_so(folder: ModelFolder, load: Load) -> None:
    evidence = load(folder).evidence
    assert evidence.verified
    assert evidence.summary.startswith("verified: 2 golden samples reproduced")
    assert evidence.summary.endswith("; golden picture reproduced")


@pytest.mark.parametrize("edited", [False, True])
def test_a_filter_that_computes_something_else_keeps_the_version_from_loading(
    folder: ModelFolder, load: Load, monkeypatch: pytest.MonkeyPatch, edited: bool
) -> None:
    if edited:
        declare(folder, "fit=stretch scale=0..1")
    monkeypatch.setitem(fit._FILTERS, "bilinear", Image.Resampling.NEAREST)
    with pytest.raises(
        RepositoryError, match=r"golden-picture\.npz: the golden picture differs from the export"
    ) as refused:
        load(folder)
    assert refused.value.path == golden_file(folder)


@pytest.mark.parametrize(
    ("line", "more", "said"),
    [
        ("fit=stretch mean=0.4914008 std=0.25", "", "fit=stretch instead of fit=crop)"),
        (LINE, 'parameters { key: "inversion" value { string_value: "always" } }', "inversion=always instead of less"),
    ],
)
def test_an_edited_declaration_is_served_and_unverified(
    folder: ModelFolder, load: Load, line: str, more: str, said: str
) -> None:
    declare(folder, line, more)
    loaded = load(folder)
    assert not loaded.evidence.verified
    assert loaded.evidence.summary.startswith("unverified: config.pbtxt declares other pictures than at export")
    assert said in loaded.evidence.summary
    assert loaded.config.pictures is not None


def test_a_declaration_that_says_the_same_in_other_words_is_not_edited(folder: ModelFolder, load: Load) -> None:
    declare(folder, "std=0.25 mean=0.4914008 fit=crop resampling=bilinear layout=nchw")
    assert load(folder).evidence.verified


def test_a_model_that_no_longer_accepts_pictures_is_verified_by_its_samples(folder: ModelFolder, load: Load) -> None:
    declare(folder, None)
    loaded = load(folder)
    assert loaded.config.pictures is None
    assert loaded.evidence.verified


@pytest.mark.parametrize("left", ["card", "picture", "neither"])
def test_an_older_version_without_them_is_verified_by_its_samples(folder: ModelFolder, load: Load, left: str) -> None:
    if left != "card":
        write_card(folder, picture=None)
    if left != "picture":
        golden_file(folder).unlink()
    evidence = load(folder).evidence
    assert evidence.verified
    assert "golden picture" not in evidence.summary


@pytest.mark.parametrize(
    ("spoil", "file", "said"),
    [
        pytest.param(
            lambda folder: golden_file(folder).write_bytes(b"PK"),
            "golden-picture.npz",
            "cannot be read as a golden picture",
            id="damaged",
        ),
        pytest.param(
            lambda folder: write_golden_picture(
                golden_file(folder), GoldenPicture(b"text", np.zeros((3, 24, 24), "f4"))
            ),
            "golden-picture.npz",
            "the golden picture: .*; export the model again, or remove the file",
            id="not a picture",
        ),
        pytest.param(
            lambda folder: write_golden_picture(golden_file(folder), GoldenPicture(b"text", np.zeros((3, 9, 9), "f4"))),
            "golden-picture.npz",
            r"tensor is float32 \[3, 9, 9\], but the model's input is float32 \[3, 24, 24\]",
            id="for another input",
        ),
        pytest.param(
            lambda folder: write_card(folder, "fit=cropped"),
            "card.json",
            'picture: "fit=cropped": fit=cropped.*; export the model again',
            id="a card that declares nonsense",
        ),
        pytest.param(
            lambda folder: write_card(folder, "imagenet colour=grey"),
            "card.json",
            "the model's input has 3 channels; export the model again",
            id="a card for another input",
        ),
    ],
)
def test_damaged_evidence_keeps_the_version_from_loading(
    folder: ModelFolder, load: Load, spoil: Callable[[ModelFolder], Any], file: str, said: str
) -> None:
    spoil(folder)
    with pytest.raises(RepositoryError, match=said) as refused:
        load(folder)
    assert refused.value.path == folder.version_path(1) / file
