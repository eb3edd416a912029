"""`pixelserve classify`: rows, files, exit codes, and leftovers after errors."""

import csv
import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from pixelserve.cli import pictures
from pixelserve.imaging.files import Finder
from pixelserve.v1 import classifier_pb2 as pb


def test_a_few_pictures_become_a_table(ask: Callable[..., Any], tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    one.write_text("4")
    two.write_text("2")
    ran = ask("classify", one, two, "--model", "digits", "--top", 2)
    assert ran.code == 0
    header, *rows = [line.split() for line in ran.out.splitlines()]
    assert header == ["picture", "1st", "2nd"]
    assert rows == [
        [str(one), "4", "75.00%", "other", "25.00%"],
        [str(two), "2", "75.00%", "other", "25.00%"],
    ]
    assert ran.err.startswith("2 pictures, 0 failed, ")
    assert len(ran.err.splitlines()) == 1


def test_a_folder_is_searched_by_name_at_any_depth_for_known_suffixes(folder: Path) -> None:
    found = [str(path.relative_to(folder)) for path in pictures.find([folder], Finder())]
    assert found == ["a.png", "b/c.JPG", "b/d.webp", "z.gif"]
    assert pictures.count([folder, folder / "notes.txt"]) == 5


def test_links_to_folders_are_not_followed_because_they_can_lead_in_circles(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    assert pictures.count([folder]) == 4


def test_a_broken_picture_has_its_row_and_the_exit_code_says_so(ask: Callable[..., Any], folder: Path) -> None:
    ran = ask("classify", folder, "--model", "digits", "--json")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 10
    assert [row["path"] for row in rows] == [str(path) for path in pictures.find([folder], Finder())]
    assert [row["error"] for row in rows] == [None, None, "this is not a picture", None]
    assert rows[2]["classes"] == []
    assert rows[0] == {
        "path": str(folder / "a.png"),
        "classes": [
            {"label": "4", "index": 7, "probability": 0.75},
            {"label": "other", "index": 1, "probability": 0.25},
        ],
        "error": None,
        "model": "digits",
        "version": "1",
        "output_kind": None,
    }
    assert ran.err.startswith("4 pictures, 1 failed, ")


def test_csv_has_one_row_a_picture_and_room_for_the_classes_asked_for(ask: Callable[..., Any], folder: Path) -> None:
    target = folder / "out.csv"
    ran = ask("classify", folder, "--model", "digits", "--csv", target, "--top", 2)
    assert ran.code == 10
    assert ran.out == ""
    with target.open(newline="") as file:
        header, first, _, broken, _ = csv.reader(file)
    assert header == [
        *("path", "error", "model", "version"),
        *("label_1", "index_1", "probability_1", "label_2", "index_2", "probability_2", "score_1", "score_2"),
    ]
    assert first == [str(folder / "a.png"), "", "digits", "1", "4", "7", "0.75", "other", "1", "0.25", "", ""]
    assert broken[:2] == [str(folder / "b" / "d.webp"), "this is not a picture"]
    assert broken[4:] == [""] * 8


def test_scores_are_never_shown_as_probabilities(ask: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    result = pb.Result(classes=[pb.Class(label="cat", index=1, score=212.475), pb.Class(label="dog", score=-3)])
    fake.result = lambda image, top_k: result
    (tmp_path / "a.png").write_text("4")
    table = ask("classify", tmp_path / "a.png", "--model", "digits").out
    assert ("cat score 212.5" in table, "dog score -3" in table, "%" in table) == (True, True, False)
    (line,) = ask("classify", tmp_path / "a.png", "--model", "digits", "--json").out.splitlines()
    best, second = json.loads(line)["classes"]
    assert best == {"label": "cat", "index": 1, "score": pytest.approx(212.475)}
    assert second == {"label": "dog", "index": 0, "score": -3}
    ask("classify", tmp_path / "a.png", "--model", "digits", "--csv", tmp_path / "out.csv", "--top", 2)
    with (tmp_path / "out.csv").open(newline="") as file:
        _, row = csv.reader(file)
    assert row[4:] == ["cat", "1", "", "dog", "0", "", "212.475", "-3"]


def test_json_has_no_nan_whatever_a_server_sends(ask: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    result = pb.Result(classes=[pb.Class(label="cat", probability=math.nan), pb.Class(label="dog", score=math.inf)])
    fake.result = lambda image, top_k: result
    (tmp_path / "a.png").write_text("4")
    (line,) = ask("classify", tmp_path / "a.png", "--model", "digits", "--json").out.splitlines()
    best, second = json.loads(line, parse_constant=pytest.fail)["classes"]
    assert (best["probability"], second["score"]) == (None, None)


def test_csv_replaces_what_a_link_points_to_and_keeps_the_link(ask: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("4")
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert ask("classify", tmp_path / "a.png", "--model", "digits", "--csv", tmp_path / "link.csv").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("path,")


def test_a_failure_half_way_leaves_the_old_csv_and_nothing_beside_it(
    ask: Callable[..., Any], fake: Any, tmp_path: Path
) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.png").write_text("4")
    (tmp_path / "out.csv").write_text("old")
    fake.fails = lambda number: grpc.StatusCode.INTERNAL if number == 5 else None
    ran = ask("classify", tmp_path, "--model", "digits", "--csv", tmp_path / "out.csv", "--batch-size", 2)
    assert ran.code == 6
    assert "INTERNAL" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert (tmp_path / "out.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".png"] == ["out.csv"]


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_leaves_nothing_half_written(interrupt: Callable[..., Any], tmp_path: Path) -> None:
    """
    1. The command has opened its file and asked the server, which does not answer.
    2. SIGINT.
    3. The command ends with 130, without a traceback; neither the file nor a temporary one is there.
    """
    (tmp_path / "a.png").write_text("4")
    ran = interrupt("classify", tmp_path, "--model", "digits", "--csv", tmp_path / "out.csv")
    assert ran.code == 130
    assert "Traceback" not in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_many_pictures_become_lines_that_other_tools_can_cut(ask: Callable[..., Any], tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number:02}.png").write_text(str(number))
    ran = ask("classify", tmp_path, "--model", "digits", "--top", 1)
    assert ran.code == 0
    assert ran.out.splitlines()[59] == f"{tmp_path / '59.png'}\t59 75.00%"
    assert len(ran.out.splitlines()) == 60


def test_options_reach_the_server(ask: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_text("4")
    ran = ask(
        *("classify", tmp_path, "--model", "digits", "--model-version", "3", "--top", 7, "--inversion", "always"),
        *("--batch-size", 2, "--in-flight", 1, "--token", "secret"),
    )
    assert ran.code == 0
    assert [len(request.images) for request in fake.requests] == [2, 2, 1]
    request = fake.requests[0]
    assert (request.model, request.version, request.top_k) == ("digits", "3", 7)
    assert request.inversion == pb.INVERSION_ALWAYS
    assert fake.metadata[0]["authorization"] == "Bearer secret"


def test_names_cannot_steer_the_terminal(ask: Callable[..., Any], tmp_path: Path) -> None:
    evil = tmp_path / "a\x1b[2J\n.png"
    evil.write_text("4\x1b[31m")
    ran = ask("classify", evil, "--model", "digits")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "a\\x1b[2J\\n.png" in ran.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{folder}"], "--model"),
        (["{folder}/nothing.png", "--model", "digits"], "nothing.png"),
        (["{folder}", "--model", "digits", "--top", "0"], "--top"),
        (["{folder}", "--model", "digits", "--inversion", "perhaps"], "perhaps"),
        (["{folder}", "--model", "digits", "--json", "--csv", "x.csv"], "--json"),
        (["{folder}", "--model", "digits", "--csv", "{folder}"], "regular file"),
        (["{folder}/a.png", "--model", "digits", "--csv", "{folder}/a.png"], "one of the pictures"),
        (["{folder}/empty", "--model", "digits"], "no pictures"),
        (["{folder}", "--model", "digits", "--tls-ca", "nothing.pem"], "nothing.pem"),
        (["{folder}", "--model", "digits", "--address", ""], "target"),
    ],
)
def test_a_wrong_argument_is_exit_code_2_and_asks_nothing(
    ask: Callable[..., Any], fake: Any, folder: Path, arguments: list[str], told: str
) -> None:
    (folder / "empty").mkdir()
    ran = ask("classify", *(argument.format(folder=folder) for argument in arguments))
    assert ran.code == 2
    assert told in ran.err
    assert not fake.requests


def test_a_csv_file_that_cannot_be_written_is_said_before_anything_is_asked(
    ask: Callable[..., Any], fake: Any, folder: Path
) -> None:
    ran = ask("classify", folder, "--model", "digits", "--csv", folder / "missing" / "out.csv")
    assert ran.code == 2
    assert "cannot be written" in ran.err
    assert not fake.requests


@pytest.mark.slow
def test_no_server_is_one_sentence_and_exit_code_5(run: Callable[..., Any], folder: Path, no_server: str) -> None:
    ran = run("classify", folder, "--model", "digits", "--address", no_server)
    assert ran.code == 5
    assert ran.err.startswith(f"pixelserve: {no_server}: UNAVAILABLE")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.slow
def test_ten_times_the_pictures_take_no_more_memory(ask: Callable[..., Any], fake: Any, tmp_path: Path) -> None:
    fake.keeps = False
    peaks = SimpleNamespace(small=0, large=0, again=0)
    # Python's own table of file names may grow meanwhile, by megabytes at once where it holds many already; not twice.
    for name, count in (("warm", 5000), ("small", 500), ("large", 5000), ("again", 5000)):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:05}.png").write_bytes(b"4" * 300)
        tracemalloc.start()
        assert ask("classify", folder, "--model", "digits", "--csv", tmp_path / "out.csv").code == 0
        setattr(peaks, name, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What grows is the folder's list of names: about 100 bytes each.
    assert min(peaks.large, peaks.again) - peaks.small < 4500 * 250
