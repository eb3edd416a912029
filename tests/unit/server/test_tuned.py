"""--engine auto: tuning.json decides only where it holds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import sha256_of
from pixelserve.precisions import RULES, lowered_precision, this_processor
from pixelserve_server.engine.providers import EngineChoice, openvino_version
from pixelserve_server.engine.providers.cuda import Cuda
from pixelserve_server.engine.providers.openvino import OpenVino
from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.loaded import LoadedVersion
from pixelserve_server.repository.loader import Loader
from pixelserve_server.repository.tuned import (
    Engine,
    Machine,
    NotTunedError,
    TunedVersion,
    read_tuning,
    tuned_version,
    write_tuning,
)
from pixelserve_server.tools.strays import beside_versions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path, model_writer: Callable[..., Path]) -> ModelFolder:
    """A model with one version that doubles, without a card."""
    model_writer(tmp_path / "doubler" / "1" / "model.onnx")
    return ModelFolder(tmp_path / "doubler")


def model_of(folder: ModelFolder) -> Path:
    return folder.version_path(1) / "model.onnx"


def record(folder: ModelFolder, **changes: Any) -> TunedVersion:
    """Returns what a race on this machine could have written: OpenVINO from 2 rows on."""
    fields: dict[str, Any] = {
        "machine": Machine.here(),
        "model_sha256": sha256_of(model_of(folder)),
        "engines": (
            Engine(engine="onnxruntime", precision="float32", from_rows=1),
            Engine(engine="openvino", precision="float32", from_rows=2),
        ),
        "threads": 1,
        "sessions": 2,
        "buckets": (1, 4),
        "batch_limit": 4,
        "queue_delay_us": 1500,
        "speedup": 1.7,
        "created": "2026-01-02T03:04:05+00:00",
    }
    return TunedVersion(**{**fields, **changes}).sealed()


def write(folder: ModelFolder, tuned: TunedVersion) -> Path:
    path = folder.path / "tuning.json"
    write_tuning(path, 1, tuned)
    return path


@pytest.fixture
def load_tuned(load: Callable[..., LoadedVersion]) -> Callable[[ModelFolder], tuple[LoadedVersion, list[str]]]:
    """Loads a version with --engine auto; returns it, and the reasons in the log."""

    def run(folder: ModelFolder) -> tuple[LoadedVersion, list[str]]:
        reasons: list[str] = []
        loaded = load(folder, uses_tuning=True, on_untuned=lambda _model, _version, reason: reasons.append(reason))
        return loaded, reasons

    return run


def test_a_record_that_holds_here_decides_engine_sessions_and_batches(folder: ModelFolder, load_tuned: Any) -> None:
    write(folder, record(folder))
    loaded, reasons = load_tuned(folder)
    assert reasons == []
    assert (loaded.provider, loaded.in_use.engine) == ("OpenVINO", "onnxruntime+openvino")
    assert (loaded.precision, loaded.in_use.threads) == ("float32+float32", 1)
    policy = loaded.config.batching
    assert (policy.max_queue_delay_s, loaded.batch_limit) == (0.0015, 4)
    assert policy.buckets[:2] == (1, 4)


def test_settings_of_the_operator_win(folder: ModelFolder, loader: Loader) -> None:
    asked = replace(
        loader,
        session_options=replace(loader.session_options, intra_op_threads=3),
        tuning=replace(loader.tuning, buckets="none"),
    )
    tuned = asked._as_tuned(record(folder))
    assert (tuned.session_options.intra_op_threads, tuned.tuning.buckets) == (3, "none")
    assert tuned.session_options.engines == (EngineChoice(), EngineChoice("openvino", "float32", 2))


def other_model(folder: ModelFolder) -> TunedVersion:
    return record(folder, model_sha256="0" * 64)


def other_processor(folder: ModelFolder) -> TunedVersion:
    return record(folder, machine=Machine.here().model_copy(update={"processor": "Pentium III"}))


def fewer_flags(folder: ModelFolder) -> TunedVersion:
    return record(folder, machine=Machine.here().model_copy(update={"flags": ()}))


def more_cores(folder: ModelFolder) -> TunedVersion:
    return record(folder, machine=Machine.here().model_copy(update={"cores": 999}))


def other_library(folder: ModelFolder) -> TunedVersion:
    libraries = {**Machine.here().libraries, "openvino": "2020.1"}
    return record(folder, machine=Machine.here().model_copy(update={"libraries": libraries}))


def emulated(folder: ModelFolder) -> TunedVersion:
    return record(folder, engines=(Engine(engine="onnxruntime", precision="bfloat16", from_rows=1),))


def from_the_second_row(folder: ModelFolder) -> TunedVersion:
    return record(folder, engines=(Engine(engine="onnxruntime", precision="float32", from_rows=2),))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_model, "measured with another model file"),
        (other_processor, "measured with processor Pentium III, this machine has "),
        (fewer_flags, "measured with flags "),
        (more_cores, "measured with cores 999"),
        (other_library, f"measured with openvino 2020.1, this is {openvino_version()}"),
        (emulated, "onnxruntime does not compute bfloat16 natively"),
        (from_the_second_row, r"engines begin at [2] rows"),
    ],
)
def test_a_record_for_something_else_is_not_used_and_says_why(
    folder: ModelFolder, load_tuned: Any, change: Callable[[ModelFolder], TunedVersion], reason: str
) -> None:
    path = write(folder, change(folder))
    loaded, reasons = load_tuned(folder)
    assert (loaded.in_use.engine, loaded.precision) == ("onnxruntime", "float32")
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert str(path) in reasons[0]
    assert "run `pixelserve autotune` again" in reasons[0]


def test_an_edited_record_is_not_used(folder: ModelFolder) -> None:
    path = write(folder, record(folder))
    content = json.loads(path.read_text())
    content["versions"]["1"]["threads"] = 2
    path.write_text(json.dumps(content))
    with pytest.raises(NotTunedError, match=r"tuning\.json was edited after it was measured"):
        tuned_version(folder, 1, model_of(folder))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the whole file"),
        ("{", "the whole file"),
        ('{"schema_version": 2}', "schema_version"),
        ('{"versions": {"1": {}}}', "versions.1.machine"),
        ('{"versions": {}}', "no record of version 1; `pixelserve autotune doubler` writes one"),
        (" " * 300_000, "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_not_used_and_names_the_field(
    folder: ModelFolder, load_tuned: Any, content: str, reason: str
) -> None:
    (folder.path / "tuning.json").write_text(content)
    loaded, (found,) = load_tuned(folder)
    assert reason in found
    assert loaded.in_use.engine == "onnxruntime"


def test_without_a_file_the_default_engine_computes(folder: ModelFolder, load_tuned: Any) -> None:
    loaded, (reason,) = load_tuned(folder)
    assert "`pixelserve autotune doubler` writes one" in reason
    assert loaded.in_use.engine == "onnxruntime"


def test_without_openvino_the_extra_is_named(folder: ModelFolder) -> None:
    write(folder, record(folder))
    here = Machine.here()
    without = here.model_copy(update={"libraries": {"onnxruntime": here.libraries["onnxruntime"]}})
    with pytest.raises(NotTunedError, match=r"openvino is not installed; .*pip install -e '\.\[openvino\]'"):
        tuned_version(folder, 1, model_of(folder), without)


def test_a_library_that_does_not_compute_may_change(folder: ModelFolder) -> None:
    alone = (Engine(engine="onnxruntime", precision="float32", from_rows=1),)
    write(folder, record(folder, engines=alone))
    here = Machine.here()
    newer = here.model_copy(update={"libraries": {**here.libraries, "openvino": "2099.1"}})
    assert tuned_version(folder, 1, model_of(folder), newer).engines == alone


def test_an_engine_that_fails_its_proof_is_not_used(
    folder: ModelFolder, load_tuned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise RepositoryError("golden outputs differ")

    write(folder, record(folder))
    monkeypatch.setattr(OpenVino, "open", broken)
    loaded, reasons = load_tuned(folder)
    assert reasons == ["golden outputs differ"]
    assert loaded.in_use.engine == "onnxruntime"


def test_a_record_is_not_for_a_gpu(folder: ModelFolder, load_tuned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, record(folder))
    monkeypatch.setattr("pixelserve_server.repository.loader.choose", lambda options: Cuda())
    _, reasons = load_tuned(folder)
    assert reasons == ["tuning.json is for the CPU, and a GPU computes; --device cpu uses it"]


def test_a_fixed_engine_needs_no_file(folder: ModelFolder, load: Callable[..., LoadedVersion], loader: Loader) -> None:
    options = replace(loader.session_options, engines=(EngineChoice("openvino"),))
    loaded = load(folder, session_options=options)
    assert (loaded.provider, loaded.precision, loaded.batch_limit > 0) == ("OpenVINO", "float32", True)


def test_records_of_other_versions_stay_and_the_file_is_replaced_whole(folder: ModelFolder) -> None:
    path = folder.path / "tuning.json"
    write_tuning(path, 7, record(folder))
    before = path.stat().st_ino
    write_tuning(path, 1, record(folder, threads=9))
    assert path.stat().st_ino != before
    assert {number: each.threads for number, each in read_tuning(path).versions.items()} == {"7": 1, "1": 9}
    assert [each.name for each in folder.path.iterdir() if each.name.startswith(".")] == []


def test_a_file_that_cannot_be_written_names_the_option(folder: ModelFolder) -> None:
    with pytest.raises(RepositoryError, match=r"cannot be written: .*--output"):
        write_tuning(folder.path / "missing" / "tuning.json", 1, record(folder))


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [
        ("fpu sse2 avx2", ["float32"]),
        ("avx2 avx512f avx512_vnni", ["float32", "int8"]),
        ("avx2 avx_vnni", ["float32", "int8"]),
        ("avx512f avx512_bf16 avx512_vnni", ["float32", "bfloat16", "int8"]),
        ("amx_tile amx_bf16 amx_int8 avx512_fp16", ["float32", "float16", "bfloat16", "int8"]),
    ],
)
def test_a_processor_computes_what_its_flags_say(tmp_path: Path, flags: str, precisions: list[str]) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"processor : 0\nmodel name\t: A Processor\nflags\t\t: {flags}\n\nprocessor : 1\nflags : none\n")
    found = this_processor(facts)
    assert (found.name, list(found.precisions)) == ("A Processor", precisions)


def test_the_least_exact_precision_decides() -> None:
    assert lowered_precision(("float32", "float64")) is None
    assert lowered_precision(("float32", "float16", "bfloat16")) == "bfloat16"
    assert all(np.isfinite([rule.rows, rule.output, rule.mean, rule.accuracy]).all() for rule in RULES.values())


def test_doctor_knows_the_file(folder: ModelFolder) -> None:
    write(folder, record(folder))
    assert [each.path.name for each in beside_versions(folder, None, is_known=True)] == []
    (folder.path / "tuning.txt").touch()
    assert [each.path.name for each in beside_versions(folder, None, is_known=True)] == ["tuning.txt"]
