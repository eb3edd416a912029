"""The written report: the page and its pictures."""

import base64
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_training import report
from pixelserve_training.errors import MissingLibraryError, TargetExistsError, WriteError
from pixelserve_training.report import Headline, Layer, Predictions, Regression, ReportContent, Samples, style
from pixelserve_training.report.texts import TEXTS

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "<b>&\"' onerror=x</td></table><script src=//example.org>" + "y" * 200
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "img", "div", "details", "summary"),
    *("table", "tr", "th", "td", "strong", "pre"),
}
WITHOUT_END = {"meta", "img"}


class Page(HTMLParser):
    """Takes a page apart, and holds it to being well-formed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in WITHOUT_END:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for attributes in self.of("h2") if "id" in attributes]


def some_predictions(*, wrong: int = 2, classes: int = 3) -> Predictions:
    labels = np.arange(36) % classes
    predicted = np.where(np.arange(36) < wrong, (labels + 1) % classes, labels)
    images = np.random.default_rng(0).integers(0, 256, (36, 6, 6, 3), dtype=np.uint8)
    scores = np.eye(classes)[predicted] * 0.7 + 0.3 / classes
    return Predictions(scores, labels, images, split="held-out samples")


def classifier(labels: tuple[str, ...] = ("cat", "dog", "owl")) -> ReportContent:
    part = some_predictions(classes=len(labels))
    assert part.images is not None
    return ReportContent(
        "pets",
        headline=Headline("accuracy", 10 / 12, 12, "held-out samples", "2026-11-29", 0.85, ("pixelserve export pets",)),
        settings={"seed": 7, "learning_rate": 0.001, "averaging": None, "sizes": (3, 0.5)},
        metrics={"accuracy": 5 / 6, "recall": {"cat": 0.75}},
        versions={"python": "3.11.7"},
        labels=labels,
        history={"loss": [2.0, 1.0], "accuracy": [0.5, 0.75]},
        samples=Samples(part.images, part.labels),
        predictions=part,
        layers=[Layer("dense", "Dense", (None, 3), 327)],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a whole report."""
    return report.write(tmp_path_factory.mktemp("report"), classifier())


# The only section without a picture.
TABLE = "per-class"
REGRESSION = ReportContent(
    "blood-fat",
    regression=Regression(np.eye(2), np.ones(2), ("weight, kg", "age, years"), "blood fat", (1.0, -2.0), 3.0),
)


def test_the_page_holds_the_pictures_that_lie_beside_it(written: Path) -> None:
    page = Page(written)
    assert page.sections == [name for name in TEXTS if name != "plane"]
    files = {file.name: file.read_bytes() for file in (written.parent / "pictures").iterdir()}
    drawn = [name for name in page.sections if name != TABLE]
    assert files.keys() == {f"{name}.png" for name in drawn}
    sources = [str(image["src"]) for image in page.of("img")]
    assert sources == [f"data:image/png;base64,{base64.b64encode(files[f'{name}.png']).decode()}" for name in drawn]
    assert {path.name for path in written.parent.iterdir()} == {"report.html", "pictures"}


def test_the_page_says_what_was_measured_and_how(written: Path) -> None:
    page = Page(written)
    table = [text for text in page.texts if text]
    for name, value in {
        **{"seed": "7", "learning_rate": "0.001", "averaging": "–", "sizes": "3, 0.5"},
        **{"accuracy": "0.833333", "recall: cat": "0.75", "python": "3.11.7"},
    }.items():
        assert (name, value) in pairwise(table)


def test_the_page_opens_with_the_figure_its_interval_and_what_to_do_next(written: Path) -> None:
    texts = [text for text in Page(written).texts if text]
    opening = texts[texts.index("83.33 %") : texts.index("Samples")]
    assert opening[1] == ("accuracy on 12 held-out samples, 95 % interval 55.20 to 95.30 %; the recipe claims 85.00 %.")
    assert opening[2:] == ["Trained on 2026-11-29.", "Next:", "pixelserve export pets"]


@pytest.mark.slow
def test_a_split_is_named_as_the_caller_names_it(written: Path) -> None:
    assert "held-out samples" in Page(written).html
    assert "test split" not in Page(written).html


@pytest.mark.slow
def test_an_error_has_no_interval_and_no_claim_that_it_does_not_have(tmp_path: Path) -> None:
    headline = Headline("mean_squared_error", 1712.25, 25, "training samples", "2026-11-29")
    page = Page(report.write(tmp_path, replace(REGRESSION, headline=headline)))
    assert "mean squared error on 25 training samples." in page.texts


def test_every_picture_is_described_for_those_who_do_not_see_it(written: Path) -> None:
    page = Page(written)
    alts = [image["alt"] for image in page.of("img")]
    assert "Confusion matrix. 34 of 36 held-out samples are classified correctly." in alts
    assert "Layers. Layers: 1, parameters: 327." in alts
    assert all(alt and len(alt) > 20 for alt in alts)


@pytest.mark.slow
def test_a_label_is_text_wherever_it_shows(tmp_path: Path) -> None:
    content = replace(
        classifier((HOSTILE, "dog", "$")),
        title=HOSTILE,
        settings={HOSTILE: HOSTILE},
        layers=[Layer(HOSTILE, "a", (1,), 2)],
    )
    page = Page(report.write(tmp_path, content))
    assert {tag for tag, _ in page.elements} == ELEMENTS
    assert page.texts.count(HOSTILE) >= 5
    assert f"The label is {HOSTILE}" in " ".join(str(image["alt"]) for image in page.of("img"))


def test_the_page_loads_and_runs_nothing(written: Path) -> None:
    page = Page(written)
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.of("img"))
    assert not [attributes for _, attributes in page.elements if "href" in attributes]
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert "default-src 'none'" in str(page.of("meta"))


@pytest.mark.slow
def test_parts_that_do_not_apply_are_left_out(tmp_path: Path) -> None:
    assert Page(report.write(tmp_path / "regression", REGRESSION)).sections == ["plane"]
    assert "blood fat = 1 · weight, kg − 2 · age, years + 3" in (tmp_path / "regression" / "report.html").read_text()
    history = ReportContent("x", history={"loss": [], "learning_rate": [0.1]})
    assert Page(report.write(tmp_path / "nothing", history)).sections == []


@pytest.mark.slow
def test_scores_of_samples_that_are_no_images_have_no_gallery(tmp_path: Path) -> None:
    content = replace(
        classifier(), samples=None, predictions=replace(some_predictions(), images=None), history={}, layers=()
    )
    assert Page(report.write(tmp_path, content)).sections == [
        "class-counts",
        "confusion-matrix",
        "per-class",
        "reliability",
    ]


@pytest.mark.slow
def test_scores_that_are_no_probabilities_are_not_shown_as_such(tmp_path: Path) -> None:
    part = some_predictions()
    content = ReportContent("x", labels=("cat", "dog", "owl"), predictions=replace(part, scores=part.scores * 5 - 2))
    assert Page(report.write(tmp_path, content)).sections == ["class-counts", "confusion-matrix", "per-class", "errors"]


@pytest.mark.slow
def test_characters_that_no_font_has_are_named_with_a_font_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(style, "families", lambda: ("DejaVu Sans",))
    page = Page(report.write(tmp_path, classifier(("猫", "犬", "cat"))))
    assert "No installed font has the characters 猫犬 of the class names" in page.html
    assert "Debian's fonts-noto-cjk" in capsys.readouterr().err


@pytest.mark.slow
def test_a_classifier_without_errors_gets_a_sentence(tmp_path: Path) -> None:
    page = Page(
        report.write(tmp_path, ReportContent("x", labels=("cat", "dog", "owl"), predictions=some_predictions(wrong=0)))
    )
    assert "errors" in page.sections
    assert "None: all 36 samples are classified correctly." in page.texts
    assert not (tmp_path / "pictures" / "errors.png").exists()


@pytest.mark.slow
def test_a_bin_of_few_samples_is_counted_and_not_drawn(tmp_path: Path) -> None:
    part = some_predictions()
    few = Predictions(part.scores[:29], part.labels[:29], split="held-out samples")
    page = Page(report.write(tmp_path, ReportContent("x", labels=("cat", "dog", "owl"), predictions=few)))
    assert "No bin has the 30 samples for an accuracy." in page.html
    assert not (tmp_path / "pictures" / "reliability.png").exists()


@pytest.mark.slow
def test_a_single_score_is_a_yes_or_a_no(tmp_path: Path) -> None:
    scores, labels = np.array([[0.2], [0.9], [0.7]]), np.array([0, 1, 0])
    part = Predictions(scores, labels, split="held-out samples")
    page = Page(report.write(tmp_path, ReportContent("xor", labels=("true",), predictions=part)))
    assert "2 of 3 held-out samples are classified correctly." in page.texts
    assert "not true" in page.texts


@pytest.mark.slow
def test_curves_of_different_lengths_share_a_table(tmp_path: Path) -> None:
    content = ReportContent("x", history={"loss": [2.0, 1.0], "val_loss": [3.0]})
    page = Page(report.write(tmp_path, content))
    cells = [text for text in page.texts if text]
    assert cells[cells.index("epoch") :] == ["epoch", "loss", "val_loss", "1", "2.0000", "3.0000", "2", "1.0000"]
    assert "Last of 2 epochs: loss 1, val_loss 3." in page.texts


@pytest.mark.slow
def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        report.write(tmp_path / name, classifier())
    files = [file.relative_to(tmp_path / "first") for file in (tmp_path / "first").rglob("*.*")]
    assert files
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("name", ["report.html", "pictures/plane.png"])
def test_an_older_report_is_not_overwritten(tmp_path: Path, name: str) -> None:
    older = tmp_path / name
    older.parent.mkdir(exist_ok=True)
    older.write_text("older")
    with pytest.raises(TargetExistsError, match="exists already"):
        report.write(tmp_path, REGRESSION)
    assert [file for file in tmp_path.rglob("*.*") if file.is_file()] == [older]


def test_a_report_that_cannot_be_written_whole_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WriteError, match="No space left on device; nothing was left behind"):
        report.write(tmp_path, replace(REGRESSION, regression=None, history={"loss": [1.0]}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["matplotlib.figure", "jinja2"])
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    for name in [name for name in sys.modules if name.startswith("pixelserve_training.report.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(report, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibraryError, match=rf"needs the library {library}; .*pip install -e '\.\[training\]'"):
        report.write(tmp_path, REGRESSION)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_drawing_libraries_are_loaded_for_a_report_only() -> None:
    check = "import sys, pixelserve_training.report; sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_documentation_names_every_section_in_the_pages_order() -> None:
    lines = (ROOT / "docs" / "report.md").read_text().splitlines()
    headings = [line.removeprefix("### ") for line in lines if line.startswith("### ")]
    assert headings == [
        text.heading if name == TABLE else f"{text.heading} (`{name}.png`)" for name, text in TEXTS.items()
    ]
