"""The files of a model version: each is loaded like in a server, or refused with a message."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import text_format

from pixelserve.card import CARD_FILE, GOLDEN_PICTURE_FILE
from pixelserve.golden_picture import write_golden_picture
from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.golden import make
from pixelserve.imaging.words import PRESETS
from pixelserve.imaging.words import WORDS as PICTURE_WORDS
from pixelserve.oip import model_config_pb2
from pixelserve_server import factories
from pixelserve_server.errors import ServerError
from pixelserve_server.failures import FailureLog
from pixelserve_server.observe.statistics import VersionStats
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.settings import Settings
from pixelserve_server.tools import doctor

from . import messages
from .mutate import WORDS, Mutator
from .pictures import picture_files
from .server import RecordedLog, write_repository
from .target import Target

_CONFIG_TOKENS = (
    "instance_group",
    "count: 1000000000",
    "dims: [ -1, -1 ]",
    "TYPE_STRING",
    "{",
    "}",
    "[",
    "]",
    '"',
    "#",
)
_PICTURE_TOKENS = tuple(
    f" {key}={value} " for key, word in PICTURE_WORDS.items() for value in (*word.values, "1", "4096", "8/7", "#102030")
)
_PICTURE_TOKENS += (*PRESETS, "size=28x28", "mean=1e6,-1e6", "std=1e-6")
_CONFIG_TOKENS += ("dynamic_batching", "preferred_batch_size: 0", "sequence_batching {}", "ensemble_scheduling {}")


class FileTarget(Target):
    """One file of one model; the others are good."""

    growth_mib = 512
    file = ""
    """Where it is, below the model's folder."""
    model = "mnist-cnn"

    def __init__(self, folder: Path) -> None:
        write_repository(folder / self.name)
        self._folder = folder / self.name / self.model
        for other in (folder / self.name).iterdir():
            if other.name != self.model:
                shutil.rmtree(other)
        self._path = self._folder / self.file
        self.good = self._path.read_bytes() if self._path.exists() else b""
        self._log = RecordedLog()
        settings = Settings(model_repository=folder, device="cpu", warmup_s=0, intra_op_threads=1)
        self._loader = factories.loader(settings, lambda *_: VersionStats(), FailureLog(self._log))

    def run(self, data: bytes) -> str:
        self._path.write_bytes(data)
        try:
            self._loader.load(ModelFolder(self._folder), 1).batcher.drain()
        except ServerError:
            pass
        except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
            return f"loading raised {error!r}"
        report = doctor.examine(self._folder.parent, self._loader, quick=True)
        unexpected = [finding.problem for model in report.models for finding in model.findings if _is_fault(finding)]
        failures, self._log.failures = self._log.failures, []
        return "; ".join([*unexpected, *failures])


def _is_fault(finding: Any) -> bool:
    return str(finding.problem).startswith("unexpected failure")


class ConfigTarget(FileTarget):
    """config.pbtxt."""

    name = "config.pbtxt"
    file = "config.pbtxt"

    def make(self, mutator: Mutator) -> bytes:
        if mutator.chance(0.5):
            return mutator.text(self.good, (*_CONFIG_TOKENS, *WORDS, *_PICTURE_TOKENS))
        good = text_format.Parse(self.good.decode(), model_config_pb2.ModelConfig())
        changed = messages.mutate(mutator, [good])
        return text_format.MessageToString(changed).encode()


class LabelsTarget(FileTarget):
    """labels.txt."""

    name = "labels.txt"
    file = "labels.txt"

    def make(self, mutator: Mutator) -> bytes:
        return mutator.text(self.good, WORDS)


class CardTarget(FileTarget):
    """card.json."""

    name = "card.json"
    file = "1/card.json"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        _declare_pictures(self._path.parent)
        self.good = self._path.read_bytes()

    def make(self, mutator: Mutator) -> bytes:
        if mutator.chance(0.8):
            return mutator.json(json.loads(self.good))
        card = json.loads(self.good)
        return json.dumps(
            card | {"picture": mutator.text(card["picture"].encode(), _PICTURE_TOKENS).decode(errors="replace")}
        ).encode()


class GoldenTarget(FileTarget):
    """golden.npz: other arrays, or other bytes."""

    name = "golden.npz"
    file = "1/golden.npz"

    def make(self, mutator: Mutator) -> bytes:
        if mutator.chance(0.5):
            return mutator.octets(self.good)
        with np.load(io.BytesIO(self.good)) as arrays:
            kept = dict(arrays)
        return _npz(_other_arrays(mutator, kept))


class GoldenPictureTarget(FileTarget):
    """golden-picture.npz: other arrays, other bytes, or another file as its picture."""

    name = GOLDEN_PICTURE_FILE
    file = f"1/{GOLDEN_PICTURE_FILE}"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.good = _declare_pictures(self._folder / "1")
        self._pictures = list(picture_files().values())

    def make(self, mutator: Mutator) -> bytes:
        if mutator.chance(0.3):
            return mutator.octets(self.good)
        with np.load(io.BytesIO(self.good)) as arrays:
            kept = dict(arrays)
        if mutator.chance(0.5):
            own = kept["picture"].tobytes()
            file = mutator.octets(mutator.random.choice([own, *self._pictures]), self._pictures)
            return _npz(kept | {"picture": np.frombuffer(file, np.uint8)})
        return _npz(_other_arrays(mutator, kept))


def _declare_pictures(version: Path) -> bytes:
    """Gives a version's card a declaration, and the version a golden picture; returns the latter's file."""
    spec = parse("mnist", Input((28, 28, 1), "uint8"))
    golden = make(spec)
    assert golden is not None
    card = json.loads((version / CARD_FILE).read_text())
    (version / CARD_FILE).write_text(json.dumps(card | {"picture": str(spec)}))
    write_golden_picture(version / GOLDEN_PICTURE_FILE, golden)
    return (version / GOLDEN_PICTURE_FILE).read_bytes()


def _other_arrays(mutator: Mutator, kept: dict[str, Any]) -> dict[str, Any]:
    """Returns arrays one of which is another, or has another name."""
    kept = dict(kept)
    name = mutator.random.choice(list(kept))
    array = kept.pop(name)
    kinds = ("<f4", ">f8", "u1", "<i8", "?", "U3", "S2", "<c8", "<M8[s]", "V4")
    shape = [mutator.random.choice((0, 1, 2, 28)) for _ in range(mutator.random.randint(0, 5))]
    changed = (
        np.zeros(shape, mutator.random.choice(kinds)),
        array[: mutator.random.randint(0, 2)],
        np.full(array.shape, mutator.real(), "<f4"),
    )
    kept[mutator.random.choice((name, name, mutator.word()))] = mutator.random.choice(changed)
    return kept


def _npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{key.replace("\0", "") or "x": value for key, value in arrays.items()})
    return file.getvalue()


class OnnxTarget(FileTarget):
    """model.onnx: fields of the graph that are others, and bytes that are."""

    name = "model.onnx"
    file = "1/model.onnx"
    model = "doubler"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        richer = onnx.ModelProto.FromString(self.good)
        richer.graph.node[0].output[0] = "sum"
        richer.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "weights"))
        richer.graph.node.append(onnx.helper.make_node("MatMul", ["sum", "weights"], ["doubled"]))
        self._seeds: list[Any] = [onnx.ModelProto.FromString(self.good), richer]

    def make(self, mutator: Mutator) -> bytes:
        return messages.serialized(mutator, self._seeds)


_TARGETS = (ConfigTarget, LabelsTarget, CardTarget, GoldenTarget, GoldenPictureTarget, OnnxTarget)


def file_targets(folder: Path) -> list[Target]:
    """Returns a target for each file; they work in `folder`."""
    return [kind(folder) for kind in _TARGETS]
