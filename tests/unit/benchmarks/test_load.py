"""Parsing h2load's output."""

import pytest

from benchmarks.compare.errors import LoadError
from benchmarks.compare.load import Target, check_answered, percentile, read_report, shape

SAID = """starting benchmark...

finished in 3.00s, 6294.00 req/s, 725.29KB/s
requests: 4 total, 4 started, 4 done, 4 succeeded, {bad} failed, 0 errored, 0 timeout
status codes: 4 2xx, 0 3xx, 0 4xx, 0 5xx
"""


def log(*durations_us: int, status: int = 200) -> str:
    return "".join(f"1795257316361726\t{status}\t{duration}\n" for duration in durations_us)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_one_value_is_every_percentile() -> None:
    assert [percentile([7], percent) for percent in (0, 50, 99, 100)] == [7, 7, 7, 7]


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(LoadError, match="no request was answered"):
        percentile([], 50)


def test_the_rate_is_what_h2load_said_and_latencies_are_from_its_log() -> None:
    load = read_report(SAID.format(bad=0), log(40, 10, 30, 20))
    assert (load.requests_per_s, load.p50_us, load.p99_us, load.p999_us) == (6294.0, 20, 40, 40)


def test_the_last_of_a_thousand_answers_is_the_99_9th_percentile() -> None:
    load = read_report(SAID.format(bad=0), log(*range(1, 1001)))
    assert (load.p50_us, load.p99_us, load.p999_us) == (500, 990, 999)


@pytest.mark.parametrize(
    ("in_flight", "connections", "is_http1", "expected"),
    [
        pytest.param(32, 1, False, ["-c1", "-m32"], id="one connection"),
        pytest.param(32, 4, False, ["-c4", "-m8"], id="four share them"),
        pytest.param(256, 256, False, ["-c256", "-m1"], id="one each"),
        pytest.param(32, 1, True, ["--h1", "-c32", "-m1"], id="HTTP/1.1 has one in flight a connection"),
    ],
)
def test_requests_in_flight_are_shared_among_the_connections(
    in_flight: int, connections: int, is_http1: bool, expected: list[str]
) -> None:
    assert shape(Target("http://here", b"", {}, is_http1), in_flight, connections) == expected


def test_an_answer_that_began_during_the_warm_up_counts() -> None:
    assert read_report(SAID.format(bad=0), log(40, 20) + log(10, status=0)).p50_us == 20


def test_failed_requests_are_no_measurement() -> None:
    with pytest.raises(LoadError, match="requests failed"):
        read_report(SAID.format(bad=1), log(10))


def test_an_http_error_is_not_a_measurement() -> None:
    with pytest.raises(LoadError, match="requests failed"):
        read_report(SAID.format(bad=0), log(10, status=503))


def test_so_many_requests_are_answered_as_were_sent() -> None:
    check_answered(SAID.format(bad=0), 4)
    # The last one ends with the same digit.
    for said, requests in ((SAID.format(bad=1), 4), (SAID.format(bad=0), 5), ("nothing", 4), ("14 succeeded", 4)):
        with pytest.raises(LoadError, match=f"expected {requests} requests"):
            check_answered(said, requests)


def test_output_without_a_rate_is_shown() -> None:
    with pytest.raises(LoadError, match="could not connect"):
        read_report("could not connect to host", "")
