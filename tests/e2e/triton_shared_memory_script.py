"""A stranger's client that passes tensors through shared memory: the public tritonclient, in its own environment.

Usage: python triton_shared_memory_script.py HOST:PORT IMAGES.npz; prints what it got as one JSON object.
IMAGES.npz holds `images`, uint8 [N, 28, 28, 1].
"""

import json
import sys
import uuid

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import shared_memory


def main() -> None:
    client = triton.InferenceServerClient(sys.argv[1])
    images = np.load(sys.argv[2])["images"]
    size, result_size = images.nbytes, len(images) * 10 * 4
    key = f"/pixelserve-test-{uuid.uuid4().hex}"
    memory = shared_memory.create_shared_memory_region("pictures", key, size + result_size)
    try:
        shared_memory.set_shared_memory_region(memory, [images])
        client.register_system_shared_memory("pictures", key, size + result_size)
        status = client.get_system_shared_memory_status(as_json=True)
        batch = triton.InferInput("image", list(images.shape), "UINT8")
        batch.set_shared_memory("pictures", size)
        wanted = triton.InferRequestedOutput("probabilities")
        wanted.set_shared_memory("pictures", result_size, offset=size)
        output = client.infer("mnist-cnn", [batch], outputs=[wanted]).get_output("probabilities")
        probabilities = shared_memory.get_contents_as_numpy(memory, np.float32, [len(images), 10], offset=size)
        labels = probabilities.argmax(axis=1).tolist()
        del probabilities
        client.unregister_system_shared_memory()
        after = client.get_system_shared_memory_status(as_json=True)
    finally:
        shared_memory.destroy_shared_memory_region(memory)
    print(
        json.dumps(
            {
                "status": status["regions"],
                "after": after,
                "labels": labels,
                "shape": list(output.shape),
                "parameters": sorted(output.parameters),
            }
        )
    )


main()
