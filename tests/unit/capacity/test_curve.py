"""Reading a measured curve, and fitting the service time."""

import json
from pathlib import Path
from typing import Any

import pytest
from measured_curves import curve

from pixelserve.capacity.curve import MeasuredCurve
from pixelserve.capacity.errors import PlanError


def test_the_fitted_times_are_those_of_the_server() -> None:
    service = MeasuredCurve.of(curve()).service()
    assert service.fixed_s == pytest.approx(0.001)
    assert service.per_request_s == pytest.approx(0.002)
    assert service.outside_s == pytest.approx(0.0005)
    assert service.limit == 8
    assert service.most_per_s == pytest.approx(8 / 0.017)
    assert sorted(service.deviations) == [(pytest.approx(-0.0001), 0.5), (pytest.approx(0.0001), 0.5)]


def test_a_request_of_several_images_is_one_of_several_in_a_run() -> None:
    service = MeasuredCurve.of(curve(images_per_request=2)).service()
    assert service.limit == 4
    # Runs of 8 images are 4 requests, at the measured 8 / 17 ms.
    assert service.run_s(4) == pytest.approx(4 / (8 / 0.017), rel=0.05)


def test_sessions_share_what_was_measured_together() -> None:
    service = MeasuredCurve.of(curve(sessions=2)).service()
    assert service.run_s(8) == pytest.approx(2 * 0.017)
    assert service.most_per_s == pytest.approx(8 / 0.017)


def test_a_server_that_does_not_merge_has_runs_of_one() -> None:
    levels = [level | {"images_per_run": 1.0, "requests_per_s": 300.0} for level in curve()["levels"]]
    service = MeasuredCurve.of(curve(levels=levels, largest_run_images=1)).service()
    assert (service.limit, service.most_per_s) == (1, pytest.approx(300))


def test_noise_never_makes_a_part_of_a_run_negative() -> None:
    falling = [level | {"requests_per_s": 100.0 * level["images_per_run"]} for level in curve()["levels"]]
    service = MeasuredCurve.of(curve(levels=falling)).service()
    assert (service.per_request_s, service.fixed_s) == (pytest.approx(0, abs=1e-9), pytest.approx(0.01))
    rates = {1.0: 400.0, 2.0: 390.0, 4.0: 350.0, 8.0: 300.0}
    convex = [level | {"requests_per_s": rates[level["images_per_run"]]} for level in curve()["levels"]]
    service = MeasuredCurve.of(curve(levels=convex)).service()
    assert service.fixed_s == 0
    assert service.per_request_s > 0


def test_a_smaller_batch_is_planned_and_a_larger_one_is_not_guessed() -> None:
    measured = MeasuredCurve.of(curve())
    assert measured.service(batch_images=4).limit == 4
    with pytest.raises(PlanError, match="the largest measured run has 8 images"):
        measured.service(batch_images=9)


def changed_level(**changes: Any) -> list[dict[str, Any]]:
    levels = curve()["levels"]
    return [levels[0], levels[1] | changes, *levels[2:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "other"}, "not a measured curve"),
        ({"format": 2}, "format must be 1"),
        ({"model": ""}, "model must be a string"),
        ({"model": 5}, "model must be a string"),
        ({"sessions": 0}, "sessions must be a whole number"),
        ({"sessions": True}, "sessions must be a whole number"),
        ({"largest_run_images": 10**9}, "largest_run_images must be a whole number from 1 to 1024"),
        ({"images_per_request": -1}, "images_per_request must be"),
        ({"memory_bytes": "much"}, "memory_bytes must be"),
        ({"levels": []}, "levels must have two entries or more"),
        ({"levels": {}}, "levels must be a list"),
        ({"levels": [1, 2]}, r"levels\[0\] must be an object"),
        ({"levels": changed_level(requests_per_s=-3)}, r"levels\[1\].requests_per_s must be a number above 0"),
        ({"levels": changed_level(requests_per_s=float("nan"))}, r"levels\[1\].requests_per_s"),
        ({"levels": changed_level(images_per_run=0)}, r"levels\[1\].images_per_run"),
        ({"levels": changed_level(cpu_ms_per_request="1")}, r"levels\[1\].cpu_ms_per_request"),
        ({"alone_ms": []}, "alone_ms must be pairs"),
        ({"alone_ms": [[0.5, 1.0]]}, "the shares sum to 1"),
        ({"alone_ms": [[1.0]]}, "alone_ms must be pairs"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        MeasuredCurve.of(curve(**changes))


@pytest.mark.parametrize("missing", sorted(set(curve()) - {"memory_bytes", "run_ms_by_images"}))
def test_a_missing_field_is_an_error(missing: str) -> None:
    made = curve()
    del made[missing]
    with pytest.raises(PlanError):
        MeasuredCurve.of(made)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b'{"kind": "pixelserve-curve"}', b"[" * 100_000, b" " * (1 << 21)]
)
def test_a_file_of_something_else_is_an_error_that_says_how_to_make_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "curve.json"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=r"curve\.json: .*pixelserve bench --model NAME --curve --json"):
        MeasuredCurve.read(path)


def test_a_single_measurement_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"model": "digits", "latency_ms": {"p99": 3.0}, "requests_per_s": 10.0}))
    with pytest.raises(PlanError, match="a single measurement of `pixelserve bench`"):
        MeasuredCurve.read(path)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read: No such file"):
        MeasuredCurve.read(tmp_path / "no")
