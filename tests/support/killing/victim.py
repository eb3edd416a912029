"""A process that publishes or pulls a model, or writes its image, and kills itself at its n-th step.

    python victim.py publish REPOSITORY MODEL_FOLDER any:STEP
    python victim.py pull REPOSITORY MODEL_FOLDER change:STEP
    python victim.py image LAYOUT MODEL_FOLDER change:STEP

Steps are the interpreter's audit events from the moment at which all is imported: each opening of a file, renaming,
linking, listing and the like; or those only that change a folder. any:0 kills nothing, and prints how many steps there
were of both kinds.

    python victim.py pull REPOSITORY MODEL_FOLDER every

does it once for each step, in copies of the repository beside it that are named by their numbers; the last is whole.
"""

import itertools
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pixelserve.card import Card
from pixelserve.golden import Golden
from pixelserve.oci.writing import write as write_image
from pixelserve.pull.mirror import Wanted, mirror
from pixelserve_training.exporting.publish import Content, Version, choose_slot, publish

_CHANGES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "ctypes.dlsym")


def _publish(repository: Path, source: Path) -> Callable[[], object]:
    slot = choose_slot(repository, source.name, None)
    folder = source / "2"
    card = Card.model_validate_json((folder / "card.json").read_text())
    with np.load(folder / "golden.npz") as arrays:
        golden = Golden({"values": arrays["inputs/values"]}, {"scaled": arrays["outputs/scaled"]})
    version = Version((folder / "model.onnx").read_bytes(), card, golden)
    labels = (source / "labels.txt").read_text().splitlines()
    config = (source / "config.pbtxt").read_text()
    return lambda: publish(slot, Content(version, config, labels))


def _pull(repository: Path, source: Path) -> Callable[[], object]:
    return lambda: mirror(Wanted(str(source), repository, replace=True))


def _image(layout: Path, source: Path) -> Callable[[], object]:
    return lambda: write_image(source.parent, source.name, 1, f"oci:{layout}:stable", on_wait=lambda: None)


ACTIONS: dict[str, Callable[[Path, Path], Callable[[], object]]] = {"publish": _publish, "pull": _pull, "image": _image}


def _act(act: Callable[[], object], kind: str, step: int) -> None:
    steps = Counter[str]()

    def on_step(event: str, args: object) -> None:
        steps["any"] += 1
        steps["change"] += event in _CHANGES
        if steps[kind] == step and (kind == "any" or event in _CHANGES):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_step)
    act()
    print(json.dumps(steps))


def _act_in_copies(action: str, repository: Path, source: Path) -> None:
    for step in itertools.count(1):
        copy = repository.with_name(str(step))
        shutil.copytree(repository, copy)
        act = ACTIONS[action](copy, source)
        child = os.fork()
        if not child:
            _act(act, "any", step)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return


def main() -> None:
    action, repository, source, when = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    if when == "every":
        _act_in_copies(action, repository, source)
        return
    kind, _, step = when.partition(":")
    _act(ACTIONS[action](repository, source), kind, int(step))


if __name__ == "__main__":
    main()
