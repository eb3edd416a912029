"""Model repositories like model images: one model, one version."""

import shutil
from pathlib import Path

from pixelserve.card import GOLDEN_FILE
from pixelserve.golden import Golden, read_golden, write_golden

from .chart import ROOT


def write(folder: Path, model: str, version: int = 1) -> Path:
    """Writes a repository with one of the committed models as a version; returns its path."""
    source, target = ROOT / "models" / model, folder / f"{model}-{version}" / model
    shutil.copytree(source / "1", target / str(version))
    for name in ("config.pbtxt", "labels.txt"):
        shutil.copy(source / name, target / name)
    return target.parent


def write_bad(folder: Path, model: str, version: int) -> Path:
    """Like `write`, but the version fails its golden samples."""
    repository = write(folder / "bad", model, version)
    path = repository / model / str(version) / GOLDEN_FILE
    golden = read_golden(path)
    write_golden(path, Golden(golden.inputs, {name: 1 - output for name, output in golden.outputs.items()}))
    return repository
