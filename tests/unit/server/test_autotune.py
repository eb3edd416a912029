"""The race of engines: what is out, who wins, and when nothing is written."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve_server.engine.providers import EngineChoice
from pixelserve_server.engine.providers.openvino import OpenVino
from pixelserve_server.errors import BusyMachineError, ConfigurationError, RepositoryError, UnknownName
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.tuned import read_tuning
from pixelserve_server.tools.autotuning.autotune import Outcome, Wishes, autotune
from pixelserve_server.tools.autotuning.find import find_version
from pixelserve_server.tools.autotuning.process import TrialError, TrialProcess
from pixelserve_server.tools.autotuning.queueing import best_delay_us, p99_us
from pixelserve_server.tools.autotuning.race import Labelled
from pixelserve_server.tools.autotuning.trace import Trace, read_trace
from pixelserve_server.tools.autotuning.trial import Job

JOB = Job("models/none", 1, [{"engine": "onnxruntime"}], 1, 1, None)
DEFAULT = "onnxruntime float32"


def program(*lines: str) -> TrialProcess:
    return TrialProcess(JOB, (sys.executable, "-I", "-S", "-c", "\n".join(lines)))


ANSWER = (
    "import sys, json",
    "job = json.loads(sys.stdin.readline())",
    "print(json.dumps({'threads': job['threads']}), flush=True)",
)


def test_a_trial_answers_what_it_is_asked() -> None:
    process = program(*ANSWER)
    assert process.start(30) == {"threads": 1}
    process.stop()
    process.stop()


@pytest.mark.parametrize(
    ("lines", "limit_s", "reason"),
    [
        pytest.param(["import os", "os.kill(os.getpid(), 11)"], 30, r"crashed \(SIGSEGV\)", id="crash"),
        pytest.param(["import time", "time.sleep(600)"], 0.01, r"no answer within 0\.01 s", id="hang"),
        pytest.param(["print('hello')"], 30, "answered nonsense", id="nonsense"),
        pytest.param(["raise SystemExit('no such library')"], 30, "exit code 1: no such library", id="exit"),
        pytest.param(['print(\'{"error": "its scores are not numbers"}\')'], 30, "not numbers", id="error"),
        pytest.param(["import sys", "sys.stderr.write('x' * 10**6)", "sys.exit(3)"], 30, "exit code 3", id="noisy"),
    ],
)
def test_a_process_that_fails_is_out_with_a_reason(lines: list[str], limit_s: float, reason: str) -> None:
    process = program(*lines)
    with pytest.raises(TrialError, match=reason):
        process.start(limit_s)
    # It has ended already, so another question fails as well.
    with pytest.raises((TrialError, ValueError)):
        process.ask({}, 1)


@pytest.mark.slow
def test_a_real_candidate_is_proven_and_measured(root: Path, tmp_path: Path) -> None:
    engines = [{"engine": "openvino", "precision": "float32", "from_rows": 1}]
    process = TrialProcess(Job(str(root / "models" / "mnist-cnn"), 1, engines, 1, 1, None))
    proven = process.start(120)
    assert (proven["precision"], proven["max_batch_size"] > 1) == ("float32", True)
    assert proven["evidence"].startswith("verified: ")
    measured = process.ask({"rows": 2, "seconds": 0.001}, 60)
    assert measured["rows_per_s"] > 0
    assert measured["run_us"] > 0
    np.savez(tmp_path / "samples.npz", image=np.zeros((3, 28, 28, 1), np.uint8))
    asked = {"samples": str(tmp_path / "samples.npz"), "output": "probabilities"}
    assert len(set(process.ask(asked, 60)["classes"])) == 1
    process.stop()


class FakeProcess:
    """A candidate whose figures a test decides."""

    def __init__(self, job: Job, figures: Callable[[str, int, int], float], answers: dict[str, Any]) -> None:
        self._names = "+".join(f"{each['engine']} {each['precision']}" for each in job.engines)
        self._names += " int8" if job.int8_model else ""
        self._job, self._figures, self._answers = job, figures, answers
        self.stopped = False
        self.asked = 0

    def _given(self, what: str) -> Any:
        found = self._answers.get(f"{what} of {self._names}")
        if isinstance(found, Exception):
            raise found
        return found

    def start(self, limit_s: float) -> dict[str, Any]:
        precision = self._given("precision") or "+".join(each["precision"] for each in self._job.engines)
        self._given("start")
        return {"evidence": "verified", "precision": precision, "max_batch_size": 8}

    def ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        self.asked += 1
        if "samples" in request:
            return {"classes": self._given("classes") or [0, 1, 2, 3]}
        self._given("measuring")
        run_us = self._figures(self._names, self._job.sessions, request["rows"])
        # Every second round of the four sizes, up to some round: of all, or of the default alone.
        number = (self.asked - 1) // 4
        noisy = self._answers.get("noisy rounds", 0) or (
            self._names == DEFAULT and self._answers.get("noisy default", 0)
        )
        if number % 2 and number < noisy:
            run_us *= 2
        return {"rows_per_s": request["rows"] * self._job.sessions / run_us * 1e6, "run_us": run_us}

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def race(tmp_path: Path, model_writer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Races candidates of two engines, whose run times in µs are given by name, sessions and rows."""
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    monkeypatch.setattr(OpenVino, "precisions", lambda self: ("float32", "bfloat16", "int8"))
    monkeypatch.setattr("pixelserve_server.tools.autotuning.autotune.usable_cores", lambda: 2)

    def run(figures: Callable[[str, int, int], float], answers: dict[str, Any] | None = None, **wishes: Any) -> Outcome:
        made: list[FakeProcess] = []

        def start(job: Job) -> Any:
            made.append(FakeProcess(job, figures, answers or {}))
            return made[-1]

        folder = ModelFolder(tmp_path / "doubler")
        try:
            return autotune(folder, 1, Wishes(rounds=4, **wishes), lambda step: None, start)
        finally:
            assert all(each.stopped for each in made)

    return run


def bfloat16_halves(name: str, sessions: int, rows: int) -> float:
    """A run takes 10 µs and 20 per row, in bfloat16 half of that; a second session brings nothing."""
    return (10 + 20 * rows) * sessions * (0.5 if "bfloat16" in name else 1.0)


def test_the_fastest_wins_and_is_written(race: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = race(bfloat16_halves)
    assert outcome.winner is not None
    assert outcome.winner.candidate.title == "openvino bfloat16, 1 × 2"
    written = read_tuning(tmp_path / "doubler" / "tuning.json").versions["1"]
    assert written == outcome.tuned
    assert written.is_sealed
    assert (written.choices, written.threads, written.sessions) == ((EngineChoice("openvino", "bfloat16"),), 2, 1)
    assert (written.speedup, written.buckets) == (2.0, (1, 2, 4, 8))
    assert "2.00 times as fast as onnxruntime float32, 1 × 2, a lone request in 0.50" in outcome.why


def test_nothing_is_written_where_nothing_beats_the_default(race: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = race(lambda name, sessions, rows: 10 * rows * sessions * (1.0 if name == DEFAULT else 0.96))
    assert (outcome.winner, outcome.tuned) == (None, None)
    assert outcome.why == "nothing beat onnxruntime float32, 1 × 2 by more than 5%"
    assert not (tmp_path / "doubler" / "tuning.json").exists()


def test_a_lone_request_stays_with_the_default_engine_where_that_is_faster(race: Callable[..., Outcome]) -> None:
    def slow_alone(name: str, sessions: int, rows: int) -> float:
        is_default = "bfloat16" not in name or ("onnxruntime float32+" in name and rows < 4)
        return (10 + 20 * rows if is_default else 60 + 8 * rows) * sessions

    outcome = race(slow_alone)
    assert outcome.tuned is not None
    # At 4 rows OpenVINO takes 92 µs and ONNX Runtime 90; at 8 it is 124 and 170.
    assert outcome.tuned.choices == (EngineChoice(), EngineChoice("openvino", "bfloat16", 8))


def test_what_is_slower_alone_whatever_the_sizes_does_not_win(race: Callable[..., Outcome]) -> None:
    def slow_alone(name: str, sessions: int, rows: int) -> float:
        return (10 + 20 * rows if name == DEFAULT else 200 + rows if rows == 1 else 9 * rows) * sessions

    outcome = race(slow_alone)
    assert outcome.winner is None
    assert "is faster, but slower for a lone request" in outcome.why


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"start of openvino bfloat16": TrialError("crashed (SIGSEGV)")}, "crashed (SIGSEGV)"),
        ({"measuring of openvino bfloat16": TrialError("no answer within 60 s")}, "no answer within 60 s"),
        ({"precision of openvino bfloat16": "float32"}, "computed float32 instead of bfloat16"),
    ],
)
def test_a_candidate_that_fails_costs_only_its_row(
    race: Callable[..., Outcome], answers: dict[str, Any], reason: str
) -> None:
    outcome = race(bfloat16_halves, answers)
    assert {each.out for each in outcome.entries if each.candidate.precision == "bfloat16"} == {reason}
    assert outcome.winner is None


def labelled(tmp_path: Path) -> Labelled:
    return Labelled(tmp_path / "samples.npz", [0, 1, 2, 3], "doubled", "4 samples")


@pytest.mark.parametrize(("most_loss", "wins"), [(0.001, False), (0.25, True)])
def test_a_candidate_that_loses_too_much_accuracy_is_out(
    race: Callable[..., Outcome], tmp_path: Path, most_loss: float, wins: bool
) -> None:
    answers = {"classes of openvino bfloat16": [0, 1, 2, 2]}
    outcome = race(bfloat16_halves, answers, samples=labelled(tmp_path), most_loss=most_loss)
    (entry, *_) = (each for each in outcome.entries if each.candidate.precision == "bfloat16")
    assert (entry.accuracy, entry.changed_labels) == (0.75, 1)
    assert (outcome.winner is not None) is wins
    assert entry.out == ("" if wins else "loses 25.00 points of accuracy, more than the accepted 0.1")


def test_without_labelled_samples_no_accuracy_is_claimed(race: Callable[..., Outcome]) -> None:
    assert {each.accuracy for each in race(bfloat16_halves).entries} == {None}


def test_int8_never_wins_because_its_file_is_another_version(race: Callable[..., Outcome], tmp_path: Path) -> None:
    def int8_is_fastest(name: str, sessions: int, rows: int) -> float:
        return 1.0 if "int8" in name else bfloat16_halves(name, sessions, rows)

    outcome = race(int8_is_fastest, int8_model=tmp_path / "int8.onnx")
    int8 = [each for each in outcome.entries if each.candidate.precision == "int8"]
    assert {each.candidate.engine for each in int8} == {"onnxruntime", "openvino"}
    assert all(each.candidate.title in outcome.speedups for each in int8)
    assert outcome.winner is not None
    assert outcome.winner.candidate.precision == "bfloat16"


def openvino_is_slower(name: str, sessions: int, rows: int) -> float:
    """A run takes 100 µs, 125 with OpenVINO in float32, and a millisecond with anything else."""
    return {DEFAULT: 100.0, "openvino float32": 125.0}.get(name, 1000.0) * sessions


def test_on_a_busy_machine_nothing_is_written(race: Callable[..., Outcome], tmp_path: Path) -> None:
    # In every second round the default takes twice as long.
    with pytest.raises(
        BusyMachineError, match=r"openvino float32, . × . is 0\.80 to 1\.60 times .* after 12 rounds: some"
    ):
        race(openvino_is_slower, {"noisy default": 99})
    assert not (tmp_path / "doubler" / "tuning.json").exists()
    # With a higher limit the median decides.
    assert race(openvino_is_slower, {"noisy default": 99}, most_spread=9.0).tuned is not None


def test_a_busy_moment_costs_more_rounds_only(race: Callable[..., Outcome]) -> None:
    quiet, noisy = race(openvino_is_slower), race(openvino_is_slower, {"noisy default": 4})
    assert quiet.tuned is noisy.tuned is None
    assert {len(rates) for rates in quiet.entries[0].rates.values()} == {4}
    assert {len(rates) for rates in noisy.entries[0].rates.values()} == {8}


def test_what_is_faster_in_every_round_wins_however_they_differ(race: Callable[..., Outcome]) -> None:
    outcome = race(bfloat16_halves, {"noisy default": 99})
    assert {len(rates) for rates in outcome.entries[0].rates.values()} == {4}
    assert outcome.winner is not None
    found = outcome.speedups[outcome.winner.candidate.title]
    assert (found.times, found.low, found.high) == pytest.approx((3.0, 2.0, 4.0))


def test_what_slows_all_alike_decides_nothing(race: Callable[..., Outcome]) -> None:
    quiet, slowed = race(bfloat16_halves), race(bfloat16_halves, {"noisy rounds": 99})
    assert {len(rates) for rates in slowed.entries[0].rates.values()} == {4}
    assert slowed.speedups == quiet.speedups
    assert slowed.tuned is not None


def test_a_version_that_the_default_engine_cannot_serve_is_an_error(race: Callable[..., Outcome]) -> None:
    with pytest.raises(RepositoryError, match=r"the default engine cannot serve it: golden outputs differ"):
        race(bfloat16_halves, {f"start of {DEFAULT}": TrialError("golden outputs differ")})


def test_a_default_engine_that_fails_in_the_race_is_an_error(race: Callable[..., Outcome]) -> None:
    with pytest.raises(RepositoryError, match=r"the default engine failed while it was measured: crashed"):
        race(bfloat16_halves, {f"measuring of {DEFAULT}": TrialError("crashed")})


def test_a_trace_decides_the_sizes_their_weights_and_the_delay(race: Callable[..., Outcome]) -> None:
    trace = Trace(tuple(number / 1000 for number in range(50)), (3,) * 40 + (1,) * 10)
    outcome = race(bfloat16_halves, trace=trace)
    assert outcome.sizes == (1, 2, 3, 4, 8)
    assert outcome.weights == {1: pytest.approx(10 / 130), 3: pytest.approx(120 / 130)}


def test_waiting_pays_where_requests_come_in_bursts_and_runs_are_long() -> None:
    # 8 requests within a millisecond, every 20 ms; a run takes 10 ms whatever its rows.
    bursts = tuple(burst * 0.02 + number * 0.0001 for burst in range(20) for number in range(8))
    trace = Trace(bursts, (1,) * len(bursts))
    run_us = {1: 10_000.0, 8: 10_000.0}
    assert best_delay_us(trace, run_us, 1, 8) == 1000
    # Alone, the first request of a burst runs at once, and the others wait for it.
    assert p99_us(trace, run_us, 1, 8, 0) == pytest.approx(19_900, abs=1)
    assert p99_us(trace, run_us, 1, 8, 1000) == pytest.approx(10_700, abs=301)


def test_waiting_never_pays_for_requests_far_apart() -> None:
    trace = Trace(tuple(float(number) for number in range(50)), (1,) * 50)
    assert best_delay_us(trace, {1: 100.0}, 2, 8) == 0
    assert p99_us(trace, {1: 100.0}, 2, 8, 0) == pytest.approx(100)


ANSWERED = "2026-11-21T22:48:07.500000Z"
LOG = [
    {"event": "model loaded", "model": "doubler", "timestamp": "2026-11-21T22:48:05Z"},
    {"event": "request", "model": "doubler", "rows": 8, "duration_ms": 500, "timestamp": ANSWERED},
    {
        "event": "request",
        "model": "doubler",
        "rows": 1,
        "duration_ms": 1500,
        "timestamp": "2026-11-21T22:48:07.500000Z",
    },
    {"event": "request", "model": "other", "rows": 4, "duration_ms": 1, "timestamp": "2026-11-21T22:48:07Z"},
    {"event": "request", "model": "doubler", "code": "NOT_FOUND", "timestamp": "2026-11-21T22:48:07Z"},
]


@pytest.mark.parametrize(
    "content",
    [
        "arrival_s,rows\n5.0,1\n6.0,8\n",
        '{"arrival_s": 6.0, "rows": 8}\n\n{"arrival_s": 5.0, "rows": 1}\n',
        "\n".join(map(json.dumps, LOG)),
    ],
)
def test_requests_are_read_from_csv_json_and_the_access_log(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    trace = read_trace(path, "doubler")
    assert (trace.arrivals_s, trace.rows, trace.seconds) == ((0.0, 1.0), (1, 8), 1.0)
    assert trace.shares() == {1: 1 / 9, 8: 8 / 9}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no request for doubler"),
        ("arrival_s,rows\n1,0\n", ":2: a request has at least 1 row"),
        ("arrival_s,rows\n-1,1\n", ":2: a request has at least 1 row"),
        ("time,rows\n1,1\n", ":2: 'arrival_s'"),
        ('{"arrival_s": 1, "rows": "many"}', ":1: invalid literal"),
        ('{"arrival_s": 1, "rows": 1}\nno json', ":2: not JSON"),
        (json.dumps(LOG[3]), "no request for doubler"),
    ],
)
def test_a_bad_trace_names_the_line_and_the_forms(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read_trace(path, "doubler")
    assert problem in str(caught.value)
    assert "expected one request per line" in str(caught.value)


def test_a_version_is_found_by_name_number_or_folder(tmp_path: Path, model_writer: Callable[..., Path]) -> None:
    for number in (2, 10):
        model_writer(tmp_path / "doubler" / str(number) / "model.onnx")
    folder = ModelFolder(tmp_path / "doubler")
    asked = {"doubler": 10, "doubler:2": 2, str(folder.path): 10, str(folder.path / "2"): 2}
    assert {text: find_version(text, tmp_path) for text in asked} == {
        text: (folder, version) for text, version in asked.items()
    }
    for text in ("doubler:3", "tripler", "../doubler"):
        with pytest.raises(UnknownName):
            find_version(text, tmp_path)
