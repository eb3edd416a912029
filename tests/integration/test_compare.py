"""`make bench`, on a small scale and without its external dependencies."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load (Debian: nghttp2-client)"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores"),
]


def compare(root: Path, *args: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.compare", "--peer", "none", *args]
    env = os.environ if path is None else {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=200)


def test_it_measures_all_servers_and_saves_what_it_found(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "1", "--requests", "20000"]
    groups = ["eights", "alone", "distinct", "grpcio", "memory"]
    done = compare(root, *quick, "--transport", "grpcio", "--only", ",".join(groups), "--json", "--out", str(tmp_path))
    # 1 says that a floor was missed, which so short a run on a machine with other work cannot tell.
    assert done.returncode in (0, 1), done.stderr
    whole = json.loads(done.stdout)
    figures = whole["figures"]
    assert whole["facts"]["transport"] == "grpcio (--transport grpcio)"
    assert list(dict.fromkeys(figure["group"] for figure in figures)) == groups
    assert all(figure["ratio"] > 0 for figure in figures)
    assert {path.name for path in tmp_path.iterdir()} == {"compare.json", "compare.md"}


def test_it_measures_streams_many_models_and_swaps(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "0.5", "--swaps", "60", "--models", "3"]
    groups = ["stream", "models", "swaps", "swapmemory"]
    done = compare(root, *quick, "--only", ",".join(groups), "--json", "--out", str(tmp_path))
    # None of these has a floor; a request that is lost over a swap ends the measurement with 2.
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    counts = [(figure["group"], len(figure["ours_values"]), len(figure["against_values"])) for figure in figures]
    assert counts == [("stream", 1, 1), ("stream", 1, 1), ("models", 1, 1), ("swaps", 3, 3), ("swapmemory", 10, 10)]
    assert "3 models loaded" in figures[2]["title"]
    assert "after 60 swaps" in figures[4]["title"]


def test_it_measures_pictures_against_a_loop(root: Path, tmp_path: Path) -> None:
    done = compare(root, "--rounds", "1", "--seconds", "0.3", "--only", "pictures", "--json", "--out", str(tmp_path))
    # 1 says that a floor was missed, which is for a quiet machine to say.
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["figures"]
    assert [figure["value"] for figure in found] == ["images_per_s"] * 3 + ["cpu_us"] * 3
    assert all(figure["ratio"] > 0 for figure in found)


def test_it_measures_connections_the_spread_of_times_and_a_busy_neighbour(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "0.5"]
    done = compare(root, *quick, "--only", "spread,neighbour,connections", "--json", "--out", str(tmp_path))
    # 1 says that a floor was missed, which is for a quiet machine to say.
    assert done.returncode in (0, 1), done.stderr
    spread, neighbour, connections = json.loads(done.stdout)["figures"]
    assert (spread["value"], spread["against_value"]) == ("p999_us", "p50_us")
    assert spread["ratio"] >= 1
    # Not how much slower: h2load's own core may be as busy on a test machine.
    assert neighbour["value"] == neighbour["against_value"] == "p50_us"
    assert connections["ours"].startswith("PixelServe, 256 in flight over 256 connections")
    assert all(value > 0 for value in (*neighbour["ours_values"], *connections["ratios"]))


def test_it_measures_what_a_request_takes_of_one_core_and_of_two(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "0.5", "--cost-requests", "4000"]
    done = compare(root, *quick, "--only", "cpu,cores", "--json", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert [figure["value"] for figure in figures] == ["cpu_us", "cpu_us", "requests_per_s", "cpu_us"]
    spent_us = [value for each in figures if each["value"] == "cpu_us" for value in each["ours_values"]]
    # The model alone takes more than ten on any core.
    assert all(value > 10 for value in spent_us)


def test_it_measures_tls_and_clients_that_wait(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "0.5"]
    done = compare(root, *quick, "--only", "tls,held", "--json", "--out", str(tmp_path))
    # 1 says that a floor was missed, which is for a quiet machine to say. A server without TLS ends with 2.
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert [figure["value"] for figure in figures] == [*["requests_per_s"] * 2, "p50_us", *["kib_each"] * 3]
    assert all(figure["ratio"] > 0 for figure in figures)
    # A call holds its own 784 bytes at least, and a connection its buffers.
    assert all(value > 0.7 for figure in figures[3:] for value in figure["ours_values"] + figure["against_values"])


def test_it_measures_http_against_grpc_on_kept_connections(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "0.5"]
    done = compare(root, *quick, "--only", "http", "--json", "--out", str(tmp_path))
    # 1 says that HTTP took a millisecond more, which is for a quiet machine to say. A wrong answer ends with 2.
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert [figure["value"] for figure in figures] == ["requests_per_s"] * 3 + ["p50_us"] * 4
    assert all(value > 0 for figure in figures for value in figure["ours_values"] + figure["against_values"])


def test_it_measures_what_the_metrics_cost(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--cost-requests", "1000"]
    done = compare(root, *quick, "--only", "metrics", "--json", "--out", str(tmp_path))
    # A server with wrong counts or answers ends the measurement with 2.
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert [(figure["group"], len(figure["ratios"])) for figure in figures] == [("metrics", 2), ("metrics", 2)]
    assert [figure["against"].partition(",")[0] for figure in figures] == [
        "PixelServe without metrics",
        "PixelServe with metrics",
    ]
    # It shows that a process was measured at all: a scrape takes milliseconds.
    assert all(value > 0 for value in figures[1]["ours_values"])


def test_it_measures_what_starting_and_loading_take(root: Path, tmp_path: Path) -> None:
    done = compare(root, "--rounds", "1", "--only", "loading", "--json", "--out", str(tmp_path))
    # 1 says that a server grew too much, which is for a quiet machine to say.
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert [figure["value"] for figure in figures] == [
        *("load_s", "load_s", "resident_mb", "resident_mb"),
        *("load_s", "load_s", "grown_mb", "grown_mb"),
    ]
    assert all(value > 0 for figure in figures for value in figure["ours_values"] + figure["against_values"])


def test_without_h2load_it_names_the_package(root: Path, tmp_path: Path) -> None:
    done = compare(root, path=str(tmp_path))
    assert done.returncode == 2
    assert "apt install nghttp2-client" in done.stderr


def test_an_unknown_figure_is_refused_with_the_known_ones(root: Path) -> None:
    done = compare(root, "--only", "speed")
    assert done.returncode == 2
    assert "rates" in done.stderr


def test_it_overloads_both_transports(root: Path, tmp_path: Path) -> None:
    quick = ["--rounds", "1", "--seconds", "0.5"]
    done = compare(root, *quick, "--only", "overload", "--json", "--out", str(tmp_path))
    # 1 says that a floor was missed, which is for a quiet machine to say.
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert {figure["group"] for figure in figures} == {"overload"}
    assert sum("on grpcio" in figure["title"] for figure in figures) * 2 == len(figures)
    assert all(len(figure["ours_values"]) == 1 for figure in figures)
