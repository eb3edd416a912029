"""Models that identify their content: each multiplies by a different factor, and proves it."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pixelserve.card import Card, sha256_of
from pixelserve.golden import Golden, write_golden
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc
from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

TIMEOUT_S = 120
OLD, NEW = 2, 3
"""Factors of the content from before, and of the new one."""
WIDTHS = {OLD: 4, NEW: 5}
"""Columns by factor: a mixture of both cannot be loaded."""


def write_version(folder: Path, factor: int, width: int) -> None:
    """Writes a version folder with its evidence."""
    folder.mkdir(parents=True)
    shape = ["N", width]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["values", "factor"], ["scaled"])],
        "scaler",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.full(width, factor, np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    card = Card(name="scaler", task="tabular", sha256=sha256_of(folder / "model.onnx"), created="2026-01-02T03:04:05Z")
    card.write(folder / "card.json")
    values = np.arange(2 * width, dtype=np.float32).reshape(2, width)
    write_golden(folder / "golden.npz", Golden({"values": values}, {"scaled": values * factor}))


def write_model(folder: Path, factor: int, version: int, width: int) -> None:
    """Writes a model with one version, its configuration and its labels."""
    write_version(folder / str(version), factor, width)
    tensor = f"data_type: TYPE_FP32 dims: [ {width} ]"
    (folder / "config.pbtxt").write_text(
        f'max_batch_size: 8 input {{ name: "values" {tensor} }} '
        f'output {{ name: "scaled" {tensor} label_filename: "labels.txt" }}'
    )
    (folder / "labels.txt").write_text("".join(f"class {number} of {width}\n" for number in range(width)))


def served(fields: dict[str, Any], model: str) -> tuple[int, int] | None:
    """Returns the version of a model that answers, and its factor; None: there is no such model.

    Raises:
        AssertionError: what serves is not whole.
    """
    with grpc.insecure_channel(fields["grpc"], [("grpc.use_local_subchannel_pool", 1)]) as channel:
        listing = classifier_pb2_grpc.ClassifierStub(channel).ListModels
        try:
            found = listing(classifier_pb2.ListModelsRequest(name=model), timeout=TIMEOUT_S).versions
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        ready = [each for each in found if each.state == classifier_pb2.ModelVersion.STATE_READY]
        assert len(ready) == 1, found
        (version,) = ready
        assert version.verified, version
        width = version.inputs[0].shape[-1]
        asked = pb.ModelInferRequest(model_name=model, raw_input_contents=[np.ones(width, np.float32).tobytes()])
        asked.inputs.add(name="values", datatype="FP32", shape=[1, width])
        answer = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=TIMEOUT_S)
    (factor,) = set(np.frombuffer(answer.raw_output_contents[0], np.float32).tolist())
    assert list(version.outputs[0].labels) == [f"class {number} of {width}" for number in range(width)], version
    return int(version.version), int(factor)
