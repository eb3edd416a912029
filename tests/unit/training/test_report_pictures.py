"""A report's pictures: content and legibility."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib import style as mpl_style
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d import proj3d

from pixelserve_training.measuring.evaluate import measure
from pixelserve_training.report import Layer, Regression, charts, gallery, layers, style

FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LONG = tuple(f"class {index} with a name of many words" for index in range(40))


def figure_of(picture: Callable[..., bytes], *args: Any, **kwargs: Any) -> Figure:
    """The figure that a picture's bytes are made from."""
    with mpl_style.context(["default", style.STYLE]):
        return picture.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def boxes(figure: Figure, drawn: Sequence[Any]) -> list[Bbox]:
    """Where texts end up, as the PNG file's renderer places them."""
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in drawn if text.get_text()]


def images(count: int, *, channels: int = 1) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 5, channels), dtype=np.uint8)


def one_hot(predicted: Sequence[int], *, classes: int, probability: float = 0.9) -> Any:
    scores = np.full((len(predicted), classes), (1 - probability) / (classes - 1))
    scores[range(len(predicted)), predicted] = probability
    return scores


def test_shortened_text_is_one_line_and_keeps_both_ends() -> None:
    assert style.shorten("Ankle\n \tboot", 20) == "Ankle boot"
    assert style.shorten("a" * 30 + "b" * 170, 16) == "a" * 10 + "…" + "b" * 5
    assert style.shorten("safe\u202egnp", 20) == "safe gnp"


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [(0, "0.0 %"), (1e-9, "<0.1 %"), (0.0005, "0.1 %"), (0.421, "42.1 %"), (0.99951, ">99.9 %"), (1, "100.0 %")],
)
def test_only_a_whole_probability_is_shown_as_whole(fraction: float, shown: str) -> None:
    assert style.percent(fraction) == shown


def test_the_same_picture_has_the_same_bytes_whatever_the_users_settings() -> None:
    counts = {"test split": np.array([0, 1, 1])}
    first = charts.class_counts(counts, ("cat", "dog"))
    with mpl.rc_context({"font.size": 30, "figure.facecolor": "red"}):
        assert charts.class_counts(counts, ("cat", "dog")) == first
        # The user's settings are left alone too.
        assert mpl.rcParams["font.size"] == 30
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first
    assert b"tIME" not in first


@pytest.mark.parametrize("label", [r"$\nothing{$", "<b>&", "猫", "x" * 200, "a\nb", "", "${"])
def test_any_label_can_be_drawn(label: str) -> None:
    names = (label, label)
    charts.confusion_matrix(np.eye(2, dtype=np.int64), names)
    gallery.sample_grid(images(2), np.array([0, 1]), names)


def test_characters_of_other_scripts_are_drawn_with_an_installed_font(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A font with one character stands for those of a package, which a machine need not have."""
    square = TTGlyphPen(None)
    for draw, point in ((square.moveTo, (0, 0)), (square.lineTo, (0, 900)), (square.lineTo, (900, 900))):
        draw(point)
    square.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": square.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    monkeypatch.setattr(style, "_FALLBACKS", ("Cats",))
    monkeypatch.setattr(style, "_FALLBACK_FILES", ("cats",))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "cats.ttf")])
    style.families.cache_clear()
    try:
        assert style.families() == ("DejaVu Sans", "Cats")
        assert style.undrawable("cat 猫 犬 犬") == "犬"
        drawn = charts.class_counts({"test samples": np.array([0])}, ("猫",))
    finally:
        style.families.cache_clear()
    monkeypatch.setattr(style, "families", lambda: ("DejaVu Sans",))
    assert charts.class_counts({"test samples": np.array([0])}, ("猫",)) != drawn


def test_sample_grid_has_a_row_for_each_class() -> None:
    pictures, labels = images(30), np.arange(30) % 2
    figure = figure_of(gallery.sample_grid, pictures, labels, ("cat", "dog", "owl"))
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog", "owl"]
    canvas = axes.images[0].get_array()
    assert (canvas[:6, :5] == pictures[0]).all()
    assert (canvas[7:13, 6:11] == pictures[3]).all()
    # No owl was there.
    assert (canvas[14:] == 255).all()


def test_sample_grid_of_many_classes_has_one_sample_of_each_that_is_there() -> None:
    labels = np.array([0, 0, 39, 7])
    figure = figure_of(gallery.sample_grid, images(4, channels=3), labels, [f"class {index}" for index in range(40)])
    assert texts(figure) == ["class 0", "class 7", "class 39"]
    assert titles(figure) == ["One sample from each of 3 classes"]


def test_errors_are_the_surest_first() -> None:
    labels = np.arange(40) % 2
    scores = one_hot(1 - labels, classes=2)
    scores[17] = [0.98, 0.02]
    scores[3] = [0.1, 0.9]
    figure = figure_of(gallery.errors, images(40), labels, scores, ("cat", "dog"), as_probability=True)
    assert titles(figure) == ["The 16 surest of 39 errors in 40 samples: label → prediction"]
    assert len(texts(figure)) == 16
    assert texts(figure)[:2] == ["dog\n→ cat (98.0 %)", "cat\n→ dog (90.0 %)"]


def test_few_errors_are_all_shown() -> None:
    labels = np.zeros(9, int)
    scores = one_hot([0, 0, 1, 0, 0, 2, 0, 0, 0], classes=3)
    figure = figure_of(
        gallery.errors, images(9, channels=3), labels, scores, ("cat", "dog", "owl"), as_probability=False
    )
    assert titles(figure) == ["All 2 errors in 9 samples: label → prediction"]
    assert texts(figure) == ["cat\n→ dog", "cat\n→ owl"]


@pytest.mark.slow
@pytest.mark.parametrize("names", [FASHION, LONG])
def test_captions_stay_apart_and_off_the_images(names: Sequence[str]) -> None:
    labels = np.arange(16) % 10
    scores = one_hot((labels + 1) % 10, classes=len(names), probability=0.99999)
    black = np.zeros((16, 28, 28, 1), np.uint8)
    figure = figure_of(gallery.errors, black, labels, scores, names, as_probability=True)
    axes = figure.axes[0]
    captions = boxes(figure, axes.texts)
    canvas = axes.images[0].get_array()
    for caption in captions:
        (left, bottom), (right, top) = axes.transData.inverted().transform(caption.get_points()).round().astype(int)
        assert (canvas[max(top, 0) : bottom, max(left, 0) : right] == 255).all()
    for left, right in pairwise(captions):
        assert left.x1 < right.x0 or left.y0 > right.y1
    assert min(box.x0 for box in captions) >= 0
    assert max(box.x1 for box in captions) <= figure.bbox.x1


@pytest.mark.parametrize("classes", [2, *(pytest.param(many, marks=pytest.mark.slow) for many in (25, 100))])
def test_class_names_stay_apart(classes: int) -> None:
    names = [f"Ankle boot {index}" for index in range(classes)]
    labels = np.arange(classes)
    for figure in (
        figure_of(charts.confusion_matrix, np.eye(classes, dtype=np.int64), names),
        figure_of(charts.class_counts, {"training split": labels, "test split": labels}, names),
    ):
        down = boxes(figure, figure.axes[0].get_yticklabels())
        assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(down))
        assert min(box.x0 for box in down) >= 0
    figure = figure_of(charts.confusion_matrix, np.eye(classes, dtype=np.int64), names)
    across = boxes(figure, figure.axes[0].get_xticklabels())
    assert all(left.x1 <= right.x0 for left, right in pairwise(across))


def test_probability_bars_keep_the_order_of_few_classes() -> None:
    figure = figure_of(gallery.probability_bars, images(1)[0], np.array([0.1, 0.6, 0.3]), ("cat", "dog", "owl"), 2)
    bars = figure.axes[1]
    assert [text.get_text() for text in bars.get_yticklabels()] == ["cat", "dog", "owl"]
    assert [patch.get_width() for patch in bars.patches] == pytest.approx([10, 60, 30])
    assert titles(figure) == ["label: owl", "prediction: dog"]


def test_probability_bars_of_many_classes_are_the_most_probable() -> None:
    probabilities = np.arange(40) / np.arange(40).sum()
    figure = figure_of(gallery.probability_bars, images(1, channels=3)[0], probabilities, LONG, 39)
    widths = [patch.get_width() for patch in figure.axes[1].patches]
    assert widths == pytest.approx(probabilities[:29:-1] * 100)


def test_classes_of_one_name_keep_their_own_bars() -> None:
    figure = figure_of(gallery.probability_bars, images(1)[0], np.array([0.25, 0.75]), ("same", "same"), 0)
    assert [patch.get_width() for patch in figure.axes[1].patches] == [25, 75]


def test_class_counts_count_classes_without_samples_too() -> None:
    figure = figure_of(charts.class_counts, {"test samples": np.array([0, 2, 2])}, ("cat", "dog", "owl"))
    assert [patch.get_width() for patch in figure.axes[0].patches] == [1, 0, 2]
    assert titles(figure) == ["test samples: 3"]


def test_curves_are_those_in_the_history() -> None:
    history = {"loss": [2.0, 1.0], "val_loss": [2.5], "accuracy": [0.5, 0.75], "learning_rate": [1.0, 1.0]}
    upper, lower = figure_of(charts.training_curves, history).axes
    assert [list(line.get_ydata()) for line in upper.lines] == [[2, 1], [2.5]]
    assert [list(line.get_ydata()) for line in lower.lines] == [[50, 75]]
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["training", "validation"]


@pytest.mark.parametrize("epochs", [1, 2, 5, 60])
def test_epochs_are_whole_numbers(epochs: int) -> None:
    figure = figure_of(charts.training_curves, {"loss": [0.5] * epochs})
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick.is_integer() and tick >= 1 for tick in ticks)


def test_confusion_has_a_row_for_each_label() -> None:
    counts = np.array([[1, 2, 0], [0, 0, 0], [0, 0, 1]])
    figure = figure_of(charts.confusion_matrix, counts, ("cat", "dog", "owl"))
    assert texts(figure) == ["1", "2", "1"]
    assert titles(figure)[0] == "Confusion matrix: 2 of 4 correct"
    # The row of the dog, of which there is none, is grey.
    assert [patch.get_y() for patch in figure.axes[0].patches] == [0.5]


def test_reliability_shows_the_accuracy_of_each_bin_with_30_samples_and_the_count_of_all() -> None:
    scores = np.array([[0.9, 0.1]] * 40 + [[0.4, 0.6]] * 29)
    labels = np.array([0] * 30 + [1] * 39)
    calibration = measure(scores, labels, ("cat", "dog"), split="test").calibration
    figure = figure_of(charts.reliability, calibration)
    upper, lower = figure.axes
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([75])
    assert sorted(bar.get_height() for bar in lower.patches)[-3:] == [0, 29, 40]
    assert [text.get_text() for text in lower.texts if text.get_text() != "0"] == ["29", "40"]
    # (40 × |0.75 − 0.9| + 29 × |1 − 0.6|) / 69
    assert titles(figure)[0] == "Expected calibration error 0.2551 (15 bins)"


@pytest.mark.parametrize("slopes", [(2.0, 3.0), (-2.0, 3.0), (5.0, 0.1), (0.0, -1.0)])
def test_a_plane_shows_its_upper_face(slopes: tuple[float, float]) -> None:
    features = np.random.default_rng(0).random((20, 2)) * (100, 0.1)
    slopes = (slopes[0] / 100, slopes[1] / 0.1)
    fit = Regression(features, features @ slopes, ("weight, kg", "age, years"), "blood fat", slopes, 0.0)
    axes: Any = figure_of(charts.plane, fit).axes[0]
    chosen = _drawn_area(axes, slopes)
    areas = []
    for azimuth in range(0, 360, 5):
        axes.view_init(elev=axes.elev, azim=azimuth)
        areas.append(_drawn_area(axes, slopes))
    assert min(areas) < 0.2 * max(areas)
    assert chosen > 0.8 * max(areas)


def _drawn_area(axes: Any, slopes: tuple[float, float]) -> float:
    """Returns the area of a plane in the picture, negative if its lower face shows."""
    corners = np.array([[0, 0], [100, 0], [100, 0.1], [0, 0.1]])
    x, y, _ = proj3d.proj_transform(*corners.T, corners @ slopes, axes.get_proj())
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_plane_leads_from_each_sample_to_the_fitted_value() -> None:
    features = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    fit = Regression(features, np.array([1.0, 4.0, 3.0]), ("weight, kg", "age, years"), "blood fat", (2.0, 3.0), 1.0)
    figure = figure_of(charts.plane, fit)
    axes: Any = figure.axes[0]
    assert [list(line.get_data_3d()[2]) for line in axes.lines] == [[1, 1], [3, 4], [4, 3]]
    assert [axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()] == ["weight, kg", "age, years", "blood fat"]
    assert "mean squared error 0.6667" in axes.get_title()


def test_layer_table_ends_with_the_sum() -> None:
    network = [Layer("image", "InputLayer", (None, 28, 28, 1), 0), Layer("dense", "Dense", (None, 10), 7850)]
    table = layers.table(network)
    assert table[1:] == [
        ("image", "InputLayer", "N × 28 × 28 × 1", "0"),
        ("dense", "Dense", "N × 10", "7,850"),
        ("total", "", "", "7,850"),
    ]
    assert texts(figure_of(layers.layer_table, network)) == [text for row in table for text in row]


def test_a_very_long_layer_table_says_what_it_leaves_out() -> None:
    figure = figure_of(layers.layer_table, [Layer("dense", "Dense", (None, 1), 2)] * 160)
    assert texts(figure)[-8:] == ["… 10 more", "", "", "", "total", "", "", "320"]
