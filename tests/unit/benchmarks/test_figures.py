"""The figures, their order of measurement, and their goals."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.compare import figures, plot, report, table
from benchmarks.compare.figures import OURS, OURS_GRPCIO, OURS_TLS, TRITON, Figure, Kind, Measurement, Row
from benchmarks.compare.report import Report
from benchmarks.compare.table import GROUPS

OUR_LOAD, THEIR_LOAD = Measurement(Kind.H2LOAD, OURS, 32), Measurement(Kind.H2LOAD, TRITON, 32)
RATE = Figure("rates", "requests/s", "requests_per_s", OUR_LOAD, THEIR_LOAD, 1.6, 1.9)
LATENCY = Figure("tail", "p99", "p99_us", OUR_LOAD, THEIR_LOAD, 0.7, 0.55, more_is_better=False)
WANTED = Figure("stream", "requests/s", "requests_per_s", OUR_LOAD, THEIR_LOAD, None, 1.0)
NO_WORSE = Figure("latency", "p99", "p99_us", OUR_LOAD, THEIR_LOAD, 1.0, None, more_is_better=False)


def verdict(figure: Figure, *ratios: float) -> str:
    return report.cells(Row(figure, [100 * ratio for ratio in ratios], [100] * len(ratios)))[-1]


@pytest.mark.parametrize(
    ("figure", "ratio", "expected"),
    [
        *((RATE, 1.59, "no"), (RATE, 1.6, "floor"), (RATE, 1.89, "floor"), (RATE, 1.9, "goal")),
        *((LATENCY, 0.71, "no"), (LATENCY, 0.7, "floor"), (LATENCY, 0.56, "floor"), (LATENCY, 0.55, "goal")),
        *((NO_WORSE, 1.01, "no"), (NO_WORSE, 1.0, "yes")),
        *((WANTED, 0.99, "no"), (WANTED, 1.0, "goal")),
    ],
)
def test_a_bar_is_met_on_it_and_on_its_right_side(figure: Figure, ratio: float, expected: str) -> None:
    assert verdict(figure, ratio) == expected


def test_the_median_of_the_rounds_ratios_decides() -> None:
    row = Row(RATE, [100, 200, 340], [100, 100, 200])
    assert row.ratios == [1.0, 2.0, 1.7]
    assert row.ratio == 1.7
    assert (row.floor_met, row.goal_met) == (True, False)


def test_the_table_shows_the_spread() -> None:
    assert report.cells(Row(RATE, [100, 200, 340], [100, 100, 200]))[3] == "1.70 (1.00 to 2.00)"


def test_a_round_measures_each_thing_once_and_turns_the_pairs_around() -> None:
    both = [RATE, LATENCY]
    assert figures.order(both, 0) == [THEIR_LOAD, OUR_LOAD]
    assert figures.order(both, 1) == [OUR_LOAD, THEIR_LOAD]
    assert [RATE.in_turn(number)[0] for number in range(3)] == [THEIR_LOAD, OUR_LOAD, THEIR_LOAD]


def test_figures_with_a_separate_server_are_not_part_of_a_round() -> None:
    apart = {Kind.RESIDENT, Kind.SWAPPED, Kind.STEADY, Kind.CPU, Kind.SCRAPE, Kind.IDLE, Kind.HELD}
    apart |= {Kind.LOADED, Kind.LIMIT, Kind.CAPACITY, Kind.OVERLOADED, Kind.REFUSAL_LIMIT, Kind.POLITE, Kind.RUN}
    apart |= {Kind.CLASSIFIED, Kind.PREPARED, Kind.TUNED, Kind.UNTUNED}
    apart |= {Kind.KEPT, Kind.BEST_FIXED, Kind.TARGET}
    assert {each.kind for each in figures.order(table.all_figures(), 0)} == set(Kind) - apart


def test_without_triton_nothing_of_it_is_left() -> None:
    left = figures.chosen(table.all_figures(), GROUPS, with_triton=False)
    counts = {"eights": 2, "alone": 2, "spread": 1, "neighbour": 1, "connections": 1, "distinct": 1, "stream": 2}
    counts |= {"grpcio": 1, "memory": 1, "http": 7, "models": 1, "swaps": 1, "swapmemory": 1, "tls": 3, "held": 3}
    counts |= {"cpu": 2, "cores": 2, "metrics": 2, "loading": 8, "pictures": 6, "overload": 20, "tuned": 4}
    counts |= {"target": 14}
    assert list(Counter(figure.group for figure in left).items()) == list(counts.items())
    assert all(TRITON not in figure.servers for figure in left)


def test_only_the_groups_that_were_asked_for_are_measured() -> None:
    left = figures.chosen(table.all_figures(), {"tail", "rates"}, with_triton=True)
    assert {figure.group for figure in left} == {"tail", "rates"}


def test_rows_take_a_figures_values_from_the_rounds_that_have_them() -> None:
    rounds = [
        {OUR_LOAD: {"requests_per_s": 3.0, "p99_us": 5.0}, THEIR_LOAD: {"requests_per_s": 2.0, "p99_us": 10.0}},
        {Measurement(Kind.RESIDENT, OURS): {"resident_mib": 1.0}},
    ]
    rate, latency = figures.rows([RATE, LATENCY], rounds)
    assert (rate.ratios, latency.ratios) == ([1.5], [0.5])


def test_a_measurement_may_be_one_side_of_a_figure_and_the_other_of_another() -> None:
    ours, grpcio, tls = (Measurement(Kind.IDLE, server) for server in (OURS, OURS_GRPCIO, OURS_TLS))
    both = [Figure("held", "memory", "kib_each", *pair, None) for pair in ((ours, grpcio), (tls, ours))]
    rounds = [{ours: {"kib_each": 3.0}, grpcio: {"kib_each": 2.0}}, {tls: {"kib_each": 8.0}, ours: {"kib_each": 4.0}}]
    assert [row.ratios for row in figures.rows(both, rounds)] == [[1.5], [2.0]]


@pytest.fixture
def whole() -> Report:
    """A report in which one of two figures misses its floor."""
    rows = [Row(RATE, [200, 210], [100, 100]), Row(LATENCY, [90, 90], [100, 100])]
    facts = {"date": "2026-01-02", "CPU": "some", "transport": "h2corn (--transport auto)"}
    return Report(facts, 2, 3, rows, {OURS: [{"in_flight": 1, "p99_us": 7.0}]})


def test_the_report_says_which_floors_were_missed(whole: Report) -> None:
    assert whole.missed == ["p99"]


def test_a_goal_without_a_floor_is_shown_and_fails_nothing() -> None:
    row = Row(WANTED, [90], [100])
    assert report.cells(row)[4:] == ["", "≥ 1.00", "no"]
    assert Report({}, 1, 1, [row], {}).missed == []


def test_what_the_metrics_cost_is_shown_to_a_tenth_of_a_percent() -> None:
    cost, scrape = (figure for figure in table.all_figures() if figure.group == "metrics")
    found = {cost.ours: {"cpu_s": 8.25, "cpu_us": 82.5}, cost.against: {"cpu_s": 8.0, "cpu_us": 80.0}}
    rows = figures.rows([cost, scrape], [{**found, scrape.ours: {"cpu_us": 4125.0}}] * 2)
    ratio = ["8.25 s", "PixelServe without metrics: 8.00 s", "1.031 (1.031 to 1.031)", "", "≤ 1.03", "no"]
    assert report.cells(rows[0])[1:] == ratio
    # Which says what there is, and is neither good nor bad.
    assert report.cells(rows[1])[1:] == ["4,125 µs", "CPU time per request: 82 µs", "50 (50 to 50)", "", "", ""]
    assert Report({}, 1, 1, rows, {}).missed == []


def test_http_may_take_a_millisecond_more_than_grpc() -> None:
    (promise,) = [figure for figure in table.all_figures() if figure.slack]
    rounds = [{promise.ours: {"p50_us": ours_us}, promise.against: {"p50_us": 200.0}} for ours_us in (1200, 1100, 1300)]
    (row,) = figures.rows([promise], rounds)
    assert (row.against, row.ratio, row.floor_met) == ([1200.0] * 3, 1.0, True)
    assert report.cells(row)[2] == "gRPC: 1,200 µs"
    assert not figures.rows([promise], [{**rounds[2]}])[0].floor_met


def test_a_percentile_is_held_against_another_of_the_same_measurement() -> None:
    spread = next(figure for figure in table.all_figures() if figure.group == "spread")
    assert spread.ours == spread.against
    assert figures.order([spread], 0) == [spread.ours]
    (row,) = figures.rows([spread], [{spread.ours: {"p50_us": 200.0, "p99_us": 300.0, "p999_us": 900.0}}])
    assert row.ratios == [4.5]
    assert report.cells(row)[1:3] == ["900 µs", "p50: 200 µs"]


def test_requests_over_many_connections_are_held_against_as_many_over_few() -> None:
    many = next(figure for figure in table.all_figures() if figure.group == "connections")
    assert (many.ours.in_flight, many.ours.connections) == (256, 256)
    assert (many.against.in_flight, many.against.connections) == (32, 4)
    assert str(many.against) == "PixelServe, 32 in flight over 4 connections, h2load"
    assert report.cells(Row(many, [80], [100]))[2] == "4 connections, 8 on each: 100/s"


def test_connections_share_the_requests_evenly() -> None:
    every = [each for figure in table.all_figures() for each in (figure.ours, figure.against)]
    assert all(each.in_flight % each.connections == 0 for each in every)
    assert {each.connections for each in every} == {1, 4, 256}


def test_memory_is_named_by_what_came_before_it() -> None:
    wanted = {figure.group: figure for figure in table.all_figures(requests=20_000, swaps=60)}
    assert [str(wanted[group].ours) for group in ("memory", "swapmemory")] == ["after 20,000", "after 60"]
    assert report.cells(Row(wanted["swapmemory"], [10], [10]))[2] == "after 50: 10.0 MiB"


def test_the_caption_says_how_many_rounds_each_figure_had() -> None:
    rows = [Row(RATE, [200] * 2, [100] * 2), Row(LATENCY, [90] * 10, [100] * 10), Row(LATENCY, [9], [9])]
    assert report.caption(Report({}, 5, 3, rows, {})).startswith("rounds: 2 or 10, rates over 3 s each")
    assert report.caption(Report({}, 5, 3, [], {})).startswith("rounds: 5, ")


def test_markdown_has_a_line_a_figure_and_the_facts(whole: Report) -> None:
    lines = report.as_markdown(whole).splitlines()
    assert "| requests/s | 205/s | Triton: 100/s | 2.05 (2.00 to 2.10) | ≥ 1.60 | ≥ 1.90 | goal |" in lines
    assert "| p99 | 90 µs | Triton: 100 µs | 0.90 (0.90 to 0.90) | ≤ 0.70 | ≤ 0.55 | no |" in lines
    assert "- CPU: some" in lines
    assert lines[0] == "# PixelServe over h2corn (--transport auto), 2026-01-02"


def test_json_has_every_value_that_was_measured(whole: Report) -> None:
    read = json.loads(report.as_json(whole))
    assert [(each["ours_values"], each["floor_met"]) for each in read["figures"]] == [
        ([200, 210], True),
        ([90, 90], False),
    ]
    assert read["curve"] == {OURS: [{"in_flight": 1, "p99_us": 7.0}]}


@pytest.mark.slow
def test_two_pictures_are_drawn(tmp_path: Path) -> None:
    points = [{"in_flight": level, "requests_per_s": 10.0 * level, "p99_us": 9.0 * level} for level in figures.LEVELS]
    pictures = plot.draw({OURS: points, TRITON: points}, tmp_path)
    assert [path.name for path in pictures] == ["throughput.png", "p99.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
