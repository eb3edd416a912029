"""`pixelserve autotune` as a command, with real engines."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.tuned import NotTunedError, read_tuning, tuned_version

pytestmark = pytest.mark.slow
# Figures of a busy machine are worthless, and the command says so; here only what it does with them matters.
ANY_SPREAD = ("--rounds", "3", "--round-ms", "1", "--max-spread", "1000000000")


def autotune(*args: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pixelserve", "autotune", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=230, check=False)


def test_every_engine_is_proven_and_the_record_holds_here(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "models" / "mnist-cnn", tmp_path / "mnist-cnn")
    # Four sizes are enough, and each takes a second to compile.
    config = tmp_path / "mnist-cnn" / "config.pbtxt"
    config.write_text(re.sub(r"max_batch_size: \d+", "max_batch_size: 8", config.read_text()))
    images = np.frombuffer((root / "examples" / "mnist" / "digit-7.npy").read_bytes()[-784:], np.uint8)
    np.savez(tmp_path / "samples.npz", x=np.repeat(images.reshape(1, 28, 28, 1), 50, axis=0), y=np.full(50, 7))
    done = autotune(
        *("mnist-cnn", "--model-repository", str(tmp_path), "--samples", str(tmp_path / "samples.npz"), "--json"),
        *ANY_SPREAD,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {(each["engine"], each["precision"]) for each in found["candidates"]} >= {
        *(("onnxruntime", "float32"), ("onnxruntime", "int8"), ("openvino", "float32"), ("openvino", "int8"))
    }
    assert [each["out"] for each in found["candidates"] if each["out"]] == []
    assert {each["accuracy"] for each in found["candidates"] if each["accuracy"] is not None} == {1.0}
    folder = ModelFolder(tmp_path / "mnist-cnn")
    model = folder.version_path(1) / "model.onnx"
    if found["tuned"] is None:
        with pytest.raises(NotTunedError):
            tuned_version(folder, 1, model)
    else:
        assert found["written"] == str(folder.path / "tuning.json")
        assert tuned_version(folder, 1, model) == read_tuning(folder.path / "tuning.json").versions["1"]


@pytest.mark.parametrize(
    ("args", "code", "problem"),
    [
        (["none"], 2, 'the repository has no model "none"'),
        (["mnist-cnn:9"], 2, 'has no version "9"; it has 1'),
        (["mnist-cnn", "--trace", "no such file"], 2, "--trace no such file: cannot be read"),
        (["mnist-cnn", "--samples", "no such file"], 2, "no such file: cannot be read"),
    ],
)
def test_a_wrong_argument_is_named(root: Path, args: list[str], code: int, problem: str) -> None:
    done = autotune(*args, "--model-repository", str(root / "models"))
    assert (done.returncode, problem in done.stderr) == (code, True), done.stderr
