"""A third-party client: the public tritonclient, in its own environment, without this project's code.

Usage: python triton_client_script.py HOST:PORT IMAGES.npz; prints what it got as one JSON object.
IMAGES.npz holds `images`, uint8 [N, 28, 28, 1].
"""

import json
import sys

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException


def stream(client: triton.InferenceServerClient, images: np.ndarray) -> list[list[object]]:
    """Sends each picture as one request of a stream, and a wrong request at the end; returns for each answer its id,
    its digit, whether it is marked as the last, and the error."""
    answers: list[list[object]] = []

    def take(result: triton.InferResult | None, error: InferenceServerException | None) -> None:
        if error is not None or result is None:
            answers.append(["", None, None, str(error)])
            return
        response = result.get_response()
        is_final = response.parameters["triton_final_response"].bool_param
        answers.append([response.id, int(result.as_numpy("probabilities").argmax()), is_final, None])

    client.start_stream(take)
    for number, image in enumerate(images):
        one = triton.InferInput("image", [1, *image.shape], "UINT8")
        one.set_data_from_numpy(image[None])
        # An even one asks for an empty last answer, which a model with one answer a request does not give.
        client.async_stream_infer(
            "mnist-cnn", [one], request_id=str(number), enable_empty_final_response=number % 2 == 0
        )
    client.async_stream_infer("none", [one])
    client.stop_stream()
    return answers


def main() -> None:
    client = triton.InferenceServerClient(sys.argv[1])
    images = np.load(sys.argv[2])["images"]
    metadata = client.get_model_metadata("mnist-cnn", as_json=True)

    batch = triton.InferInput("image", list(images.shape), "UINT8")
    batch.set_data_from_numpy(images)
    whole = client.infer("mnist-cnn", [batch], request_id="whole")

    one = triton.InferInput("image", [1, 28, 28, 1], "UINT8")
    one.set_data_from_numpy(images[:1])
    best_three = triton.InferRequestedOutput("probabilities", class_count=3)
    top = client.infer("mnist-cnn", [one], outputs=[best_three], model_version="1")

    wrong = triton.InferInput("image", [1, 28, 28], "UINT8")
    wrong.set_data_from_numpy(images[:1, :, :, 0])
    try:
        client.infer("mnist-cnn", [wrong])
        refusal = None
    except InferenceServerException as error:
        refusal = error.status()

    probabilities = whole.as_numpy("probabilities")
    print(
        json.dumps(
            {
                "live": client.is_server_live(),
                "ready": client.is_server_ready(),
                "model_ready": client.is_model_ready("mnist-cnn", "1"),
                "server": client.get_server_metadata(as_json=True),
                "metadata": metadata,
                "id": whole.get_response().id,
                "version": whole.get_response().model_version,
                "shape": list(probabilities.shape),
                "dtype": str(probabilities.dtype),
                "labels": probabilities.argmax(axis=1).tolist(),
                "top": [element.decode() for element in top.as_numpy("probabilities")[0]],
                "refusal": refusal,
                "statistics": client.get_inference_statistics("mnist-cnn", "1", as_json=True),
                "statistics_of_all": client.get_inference_statistics(as_json=True),
                "config": client.get_model_config("mnist-cnn", as_json=True)["config"],
                "index": client.get_model_repository_index(as_json=True)["models"],
                "quiet": client.update_log_settings({"log_info": False}, as_json=True)["settings"],
                "loud": client.update_log_settings({"log_info": True}, as_json=True)["settings"],
                "tracing": client.get_trace_settings(as_json=True)["settings"],
                "stream": stream(client, images),
                "own_modules": sorted(name for name in sys.modules if name.startswith("pixelserve")),
            }
        )
    )


main()
