"""An export proves, like a server, whether requests for the model may share a batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pixelserve.cli import app
from pixelserve_training.exporting.export import Exported, Target, export_file

ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path, graph_writer: Any) -> Any:
    """Writes a model of one operator on float32 [N, 3]."""

    def write(operator: str, **attributes: Any) -> Path:
        tensor = ("FLOAT", ["N", 3])
        return graph_writer(
            tmp_path / "given" / "1" / "m.onnx", {"x": tensor}, {"y": tensor}, (operator, "x", "y"), **attributes
        )

    return write


def export(model: Path, to: Path, samples: Path | None = None) -> Exported:
    return export_file(model, Target(to, "own"), labels=None, samples=samples, pixel_scale=None)


@pytest.mark.parametrize("has_samples", [False, True])
@pytest.mark.parametrize(("axis", "state"), [(1, "independent"), (0, "dependent")])
def test_rows_that_mix_are_exported_without_merging(
    tmp_path: Path, model: Any, axis: int, state: str, has_samples: bool
) -> None:
    samples = tmp_path / "samples.npz" if has_samples else None
    if samples is not None:
        np.savez(samples, x=ROWS)
    exported = export(model("LogSoftmax", axis=axis), tmp_path / "models", samples)
    assert (exported.rows.state, exported.as_json()["rows"]) == (state, state)
    config = (exported.slot.model_folder / "config.pbtxt").read_text()
    assert ("dynamic_batching" in config) == (state == "independent")
    assert "max_batch_size: 64" in config


def test_what_cannot_be_tried_is_left_to_the_server(tmp_path: Path, graph_writer: Any) -> None:
    """A graph that takes pairs of rows only."""
    path = graph_writer(
        tmp_path / "given" / "1" / "m.onnx",
        {"x": ("FLOAT", ["N", 3])},
        {"y": ("FLOAT", ["M", 3])},
        ("Split", "x", "y z"),
        axis=0,
    )
    exported = export(path, tmp_path / "models")
    assert exported.rows.state == "unproven"
    assert "dynamic_batching" in (exported.slot.model_folder / "config.pbtxt").read_text()


def test_the_command_says_what_keeps_requests_apart(tmp_path: Path, model: Any) -> None:
    arguments = ["export", str(model("LogSoftmax", axis=0)), "--name", "own", "--to", str(tmp_path / "models")]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    (line,) = [line for line in ran.output.splitlines() if "merge" in line]
    assert line.startswith("servers will not merge its requests: output y of a row differs by ")
    assert line.endswith("; export it in inference mode to change that")
