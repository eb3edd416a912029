"""The dashboard's panels as pictures: what is asked, what is drawn, and what cannot be."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import style
from matplotlib.axes import Axes
from PIL import Image

from deploy.grafana.pictures.draw import COLOURS, KINDS, picture
from deploy.grafana.pictures.load import story
from deploy.grafana.pictures.panels import DASHBOARD, Panel, PanelError, Series, Span, Target, answers, read_rows
from deploy.grafana.pictures.prometheus import PrometheusError, scraping

SPAN = Span(start_s=1000.0, end_s=1120.0, step_s=60.0)
LABELS = {"__name__": "queue", "model": "digits", "version": "3", "label": "7", "of": "classes", "code": "OK"}
LABELS |= {"job": "pixelserve", "instance": "127.0.0.1:8002", "provider": "CPUExecutionProvider", "verified": "true"}
VALUES = [(1000.0, "NaN"), (1060.0, "0.5"), (1120.0, "2")]


class Canned:
    """A Prometheus that answers every query with so many series of these values."""

    def __init__(self, values: Sequence[tuple[float, str]] = VALUES, series: int = 1) -> None:
        self.values, self.series = values, series
        self.asked: list[tuple[str, dict[str, str]]] = []

    def ask(self, path: str, **parameters: str) -> Any:
        self.asked.append((path, parameters))
        return {"resultType": "matrix", "result": [self._series(index) for index in range(self.series)]}

    def _series(self, index: int) -> Any:
        """Each is above the one before, so that none hides another."""
        values = [(time_s, str(float(value) * (index + 1))) for time_s, value in self.values]
        return {"metric": LABELS | {"model": f"digits-{index}"}, "values": values}


def panel(kind: str = "timeseries", unit: str = "s", query: str = "queue", legend: str = "{{model}} {{of}}") -> Panel:
    return Panel("Queue", kind, unit, x=0, width=8, row=0, targets=(Target(query, legend),))


def pixels(row: Sequence[Panel], shown: Mapping[str, Sequence[Series]]) -> np.ndarray:
    """Returns a drawn row as uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(picture(row, shown))).convert("RGB"))


def has(image: np.ndarray, colour: str) -> bool:
    """Says whether a pixel has about this colour: the edges of lines are blended with what is behind them."""
    return bool((np.abs(image.astype(int) - list(bytes.fromhex(colour[1:]))) < 30).all(axis=2).any())


def of_panel(each: Panel, image: np.ndarray) -> np.ndarray:
    """Returns a panel's part of a drawn row."""
    column = image.shape[1] / 24
    return image[:, round(each.x * column) : round((each.x + each.width) * column)]


ROWS = read_rows(DASHBOARD.read_text())


def test_the_rows_are_the_dashboards_from_above_and_from_the_left() -> None:
    described = json.loads(DASHBOARD.read_text())["panels"]
    assert sorted(each.title for row in ROWS for each in row) == sorted(each["title"] for each in described)
    assert [row[0].row for row in ROWS] == sorted({each["gridPos"]["y"] for each in described})
    assert all([each.x for each in row] == sorted(each.x for each in row) for row in ROWS)
    assert len({each.title for row in ROWS for each in row}) == len(described), "a panel is found by its title"


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].title)
def test_every_panel_of_the_dashboard_can_be_drawn(row: list[Panel]) -> None:
    for count in (1, 20):
        image = pixels(row, {each.title: answers(each, Canned(series=count), SPAN) for each in row})
        for each in row:
            # The colour of the first line, or the head of a table.
            expected = "#E4E4E4" if each.kind == "table" else COLOURS[0]
            assert has(of_panel(each, image), expected), each.title


@pytest.mark.parametrize("count", [1, 2])
def test_a_stat_panel_is_drawn_as_its_number(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    text = Axes.text

    def write(axes: Axes, x: float, y: float, said: str, **how: Any) -> Any:
        written.append(said)
        return text(axes, x, y, said, **how)

    monkeypatch.setattr(Axes, "text", write)
    picture([panel("stat", "percentunit")], {"Queue": answers(panel(), Canned(series=count), SPAN)})
    assert written == [["200 %"], ["200 %", "digits-0 classes", "400 %", "digits-1 classes"]][count - 1]


def test_a_query_is_asked_over_the_span_and_its_series_are_named_by_its_legend() -> None:
    prometheus = Canned()
    (series,) = answers(panel(), prometheus, SPAN)
    assert prometheus.asked == [
        ("query_range", {"query": "queue", "start": "1000.0", "end": "1120.0", "step": "60.0"}),
    ]
    # NaN, a share of nothing, is no point; time begins with the span.
    assert (series.name, series.points) == ("digits-0 classes", ((60.0, 0.5), (120.0, 2.0)))


def test_a_series_without_a_legend_is_named_by_its_labels() -> None:
    (series,) = answers(panel(legend=""), Canned(), SPAN)
    assert series.name.startswith("code=OK, instance=127.0.0.1:8002, ")
    assert "__name__" not in series.name


@pytest.mark.parametrize(
    "prometheus",
    [Canned(series=0), Canned(values=[]), Canned(values=[(1000.0, "NaN"), (1060.0, "+Inf")])],
    ids=["no series", "no points", "no numbers"],
)
def test_an_empty_answer_is_an_error_that_names_panel_and_query(prometheus: Canned) -> None:
    with pytest.raises(PanelError, match=r"panel 'Queue': expected numbers for 'queue', .* from 1000 to 1120; look"):
        answers(panel(), prometheus, SPAN)


def test_one_empty_answer_of_several_is_an_error_too() -> None:
    class HalfEmpty(Canned):
        def ask(self, path: str, **parameters: str) -> Any:
            return super().ask(path, **parameters) if parameters["query"] == "full" else {"result": []}

    both = Panel("Both", "timeseries", "s", 0, 8, 0, (Target("full", ""), Target("empty", "")))
    with pytest.raises(PanelError, match="'Both': expected numbers for 'empty'"):
        answers(both, HalfEmpty(), SPAN)


@pytest.mark.parametrize("shown", [{}, {"Queue": []}, {"Queue": [Series("a", {}, ())]}])
def test_nothing_is_not_drawn(shown: dict[str, list[Series]]) -> None:
    with pytest.raises(PanelError, match="panel 'Queue': expected series with points, got none"):
        picture([panel()], shown)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(panel(kind="gauge"), "of type 'gauge', expected one of timeseries, stat, table", id="type"),
        pytest.param(panel(unit="furlongs"), "the unit 'furlongs', expected one of s, short, reqps", id="unit"),
    ],
)
def test_what_cannot_be_drawn_is_named(wrong: Panel, said: str) -> None:
    with pytest.raises(PanelError, match=said):
        picture([wrong], {"Queue": answers(wrong, Canned(), SPAN)})


def test_the_same_answers_give_the_same_bytes_whatever_somebodys_settings_are() -> None:
    shown = {"Queue": answers(panel(), Canned(), SPAN)}
    first = picture([panel()], shown)
    with style.context({"font.size": 30, "axes.facecolor": "red"}):
        assert picture([panel()], shown) == first


def test_a_panel_that_only_gpus_fill_is_known() -> None:
    assert panel(query="nv_gpu_utilization").needs_gpu
    assert not panel().needs_gpu
    assert set(KINDS) >= {each.kind for row in ROWS for each in row}


def test_the_load_is_quiet_then_heavy_then_wrong_then_strange() -> None:
    quiet, burst, wrong, strange = (phases[0] for phases in story())
    assert burst.callers * burst.rows > 100 * quiet.callers * quiet.rows
    assert (quiet.wrong_every, wrong.wrong_every) == (0, 10)
    assert strange.model == quiet.model
    assert not np.array_equal(strange.pictures[:10], quiet.pictures[:10])


def test_without_a_prometheus_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(PrometheusError, match="not installed; install it: apt install prometheus"),
        scraping("", tmp_path),
    ):
        pass


def test_a_prometheus_that_does_not_start_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "prometheus"
    fake.write_text("#!/bin/sh\necho no space left\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    url = "http://127.0.0.1:1/metrics"
    with pytest.raises(PrometheusError, match=r"did not start; it said:\nno space left"), scraping(url, tmp_path):
        pass
