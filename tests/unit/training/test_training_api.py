"""docs/training-api.md: its files and its program run as they stand, on small data."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pixelserve_training
from pixelserve_training import datasets

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
PAGE = (ROOT / "docs" / "training-api.md").read_text()
BLOCKS = dict(re.findall(r"```python title=(\S+)\n(.*?)```", PAGE, re.DOTALL))
Command = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, with the page's files."""
    monkeypatch.chdir(tmp_path)
    for name in ("my_recipe.py", "two_bands.py"):
        (tmp_path / name).write_text(BLOCKS[name])
    return tmp_path


@pytest.mark.slow
def test_the_program_trains_exports_and_measures(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = BLOCKS["program"].replace('"models")', f'"models", data_dir={str(TINY)!r})')
    program = program.replace("0.8})", f"0.8}}, data_dir={str(TINY)!r})")
    exec(compile(program, "program", "exec"), {})
    said = capsys.readouterr().out
    assert "models/my-digits/1" in said
    settings = json.loads((workplace / "runs/digits/settings.json").read_text())
    assert (settings["learner"]["epochs"], settings["learner"]["optimizer.momentum"]) == (1, 0.8)
    assert (workplace / "runs/digits/recipe.py").read_text() == BLOCKS["my_recipe.py"]


@pytest.mark.slow
def test_own_data_is_learned_exported_from_the_run_alone_and_measured(workplace: Path, pixelserve: Command) -> None:
    trained = pixelserve("train", "two_bands.py", "--run-dir", "runs/bands", "--json")
    assert trained.exit_code == 0, trained.err
    assert json.loads(trained.out)["accuracy"] > 0.8
    (workplace / "two_bands.py").unlink()
    exported = pixelserve("export", "runs/bands", "--to", "models", "--json")
    assert exported.exit_code == 0, exported.err
    assert json.loads(exported.out)["model"] == "bands"
    assert json.loads(exported.out)["accuracy"] > 0.8
    measured = pixelserve("evaluate", "bands", "--model-repository", "models", "--samples", "runs/bands/samples.npz")
    assert measured.exit_code == 0, measured.err


def test_the_pages_names_are_those_of_the_package() -> None:
    named = {
        name
        for names in re.findall(r"^from pixelserve_training import (.+)$", PAGE, re.M)
        for name in names.split(", ")
    }
    assert named <= set(pixelserve_training.__all__)
    assert set(re.findall(r"`([\w-]+)`", PAGE.split("`dataset` is a name (")[1].split(")")[0])) == set(datasets.NAMES)


def test_every_name_of_the_package_exists_and_no_other() -> None:
    assert [name for name in pixelserve_training.__all__ if not getattr(pixelserve_training, name)] == []
    with pytest.raises(AttributeError, match="has no attribute fitt"):
        _ = pixelserve_training.fitt


@pytest.mark.slow
def test_importing_the_names_loads_no_framework() -> None:
    program = (
        "import sys; import pixelserve_training; assert 'numpy' not in sys.modules;"
        "from pixelserve_training import *;"
        "print(*{'tensorflow', 'keras', 'matplotlib', 'sklearn'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == ""
