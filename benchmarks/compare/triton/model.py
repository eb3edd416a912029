"""The model on Triton's Python backend: ONNX Runtime runs once per dynamic batch."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The class that Triton calls, with the name that it requires."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph beside this file, on one thread, like all measurements of the comparison."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        graph = Path(__file__).with_name("model.onnx")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Runs the images of all requests at once and splits the rows."""
        images = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        # Merging a single request would only copy it.
        merged = images[0] if len(images) == 1 else np.concatenate(images)
        values = self._session.run(["probabilities"], {"image": merged})[0]
        responses, row = [], 0
        for rows in map(len, images):
            tensor = pb_utils.Tensor("probabilities", values[row : row + rows])
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
            row += rows
        return responses
