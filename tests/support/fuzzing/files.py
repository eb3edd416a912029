"""The files of a model version: each is loaded as a server loads it, or refused in words."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import text_format

from pixelserve.oip import model_config_pb2
from pixelserve_server import parts
from pixelserve_server.errors import ServerError
from pixelserve_server.failures import FailureLog
from pixelserve_server.observe.statistics import VersionStats
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.settings import Settings
from pixelserve_server.tools import doctor

from . import messages
from .mutate import WORDS, Mutator
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
        self._loader = parts.loader(settings, lambda *_: VersionStats(), FailureLog(self._log))

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
            return mutator.text(self.good, (*_CONFIG_TOKENS, *WORDS))
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

    def make(self, mutator: Mutator) -> bytes:
        return mutator.json(json.loads(self.good))


class GoldenTarget(FileTarget):
    """golden.npz: other arrays, or other bytes."""

    name = "golden.npz"
    file = "1/golden.npz"

    def make(self, mutator: Mutator) -> bytes:
        if mutator.chance(0.5):
            return mutator.octets(self.good)
        with np.load(io.BytesIO(self.good)) as arrays:
            kept = dict(arrays)
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
        file = io.BytesIO()
        np.savez(file, **{key.replace("\0", "") or "x": value for key, value in kept.items()})
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


def file_targets(folder: Path) -> list[Target]:
    """Returns a target for each file; they work in `folder`."""
    return [kind(folder) for kind in (ConfigTarget, LabelsTarget, CardTarget, GoldenTarget, OnnxTarget)]
