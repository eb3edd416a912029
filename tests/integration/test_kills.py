"""kill -9 in the middle of publishing, pulling, loading and swapping: a few times here, 200 times by `make kills`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from killing import victim
from killing.kills import SCENARIOS, Kills
from killing.models import NEW, OLD, write_model, write_version

from pixelserve.oci.writing import write
from pixelserve.pull.errors import SourceRefused
from pixelserve.pull.mirror import Wanted, mirror

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_next_start_serves_a_whole_version(scenario: str) -> None:
    """The one from before or the new one, with its own configuration, labels and evidence."""
    kills = Kills(seed=1)
    assert kills.kill(scenario) == ""
    assert len(kills.outcomes[scenario]) == 1


def _visible(model: Path) -> dict[str, bytes]:
    """Returns the files of a model, but those in hidden folders, which a server passes over."""
    found = {path.relative_to(model): path for path in model.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if not name.parts[0].startswith(".")}


@pytest.mark.parametrize("is_new", [True, False], ids=["a new model", "a model that is there"])
@pytest.mark.parametrize("action", ["publish", "pull"])
def test_at_every_step_a_model_is_as_before_or_whole(tmp_path: Path, action: str, is_new: bool) -> None:
    """A pull replaces version 1, its configuration and its labels; publishing adds version 2."""
    repository, source = tmp_path / "repository", tmp_path / "source" / "scaler"
    width = 5 if action == "pull" else 4
    write_model(source, NEW, 1, width)
    repository.mkdir()
    if not is_new:
        write_model(repository / "scaler", OLD, 1, 4)
    if action == "publish":
        write_version(source / "2", NEW, 4)
    subprocess.run([sys.executable, victim.__file__, action, str(repository), str(source), "every"], check=True)
    copies = sorted((path for path in tmp_path.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    before, *found = [_visible(path / "scaler") for path in (repository, *copies)]
    whole = found[-1]
    assert before != whole
    assert [step for step, files in enumerate(found, 1) if files not in (before, whole)] == []
    assert before in found


@pytest.mark.parametrize("is_new", [True, False], ids=["a new layout", "a layout with an image"])
def test_at_every_step_a_layout_has_the_image_before_or_the_new_one(tmp_path: Path, is_new: bool) -> None:
    """And the next writer removes the leftovers."""
    layout, source = tmp_path / "layout", tmp_path / "source" / "scaler"
    layout.mkdir()
    before: dict[str, bytes] = {}
    if not is_new:
        write_model(source, OLD, 1, 4)
        write(source.parent, "scaler", 1, f"oci:{layout}:stable", on_wait=lambda: None)
        shutil.rmtree(source)
        before = _pulled(layout, tmp_path / "before")
    write_model(source, NEW, 1, 4)
    subprocess.run([sys.executable, victim.__file__, "image", str(layout), str(source), "every"], check=True)
    copies = sorted((path for path in tmp_path.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    found = [_pulled(copy, tmp_path / f"pulled-{copy.name}") for copy in copies]
    whole = _visible(source)
    assert found[-1] == whole
    assert [step for step, files in enumerate(found, 1) if files not in (before, whole)] == []
    assert before in found
    for copy in copies:
        write(source.parent, "scaler", 1, f"oci:{copy}:stable", on_wait=lambda: None)
        assert _pulled(copy, tmp_path / f"again-{copy.name}") == whole
        assert not list(copy.rglob(".*"))


def _pulled(layout: Path, repository: Path) -> dict[str, bytes]:
    """Returns the files of the image that a layout has; none if it has no image."""
    try:
        mirror(Wanted(f"oci:{layout}:stable", repository))
    except SourceRefused:
        return {}
    return _visible(repository / "scaler")
