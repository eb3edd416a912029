"""kill -9 in the middle of publishing, pulling, loading and swapping: a few times here, 200 times by `make kills`."""

import subprocess
import sys
from pathlib import Path

import pytest
from killing import victim
from killing.kills import SCENARIOS, Kills
from killing.models import NEW, OLD, write_model, write_version

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
@pytest.mark.parametrize("action", victim.ACTIONS)
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
