"""The whole MNIST test split through gRPC, compared with the model's card."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb

IN_FLIGHT = 16
LARGEST = 64


def read_idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def mixed_sizes(total: int) -> list[slice]:
    """Returns slices of 1 to 64 images that together are all of them; the seed makes them the same every time."""
    generator = np.random.default_rng(7)
    slices: list[slice] = []
    start = 0
    while start < total:
        end = min(start + int(generator.integers(1, LARGEST + 1)), total)
        slices.append(slice(start, end))
        start = end
    return slices


@pytest.mark.slow
def test_10_000_test_images_in_mixed_batch_sizes_give_the_cards_accuracy(server: Any, root: Path) -> None:
    data = root / "tests" / "data" / "mnist"
    images = read_idx(data / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    labels = read_idx(data / "t10k-labels-idx1-ubyte.gz", 8)
    assert len(images) == len(labels) == 10_000
    stub = server.stub()

    def classify(rows: slice) -> np.ndarray:
        request = pb.ModelInferRequest(model_name="mnist-cnn", raw_input_contents=[images[rows].tobytes()])
        request.inputs.add(name="image", datatype="UINT8", shape=images[rows].shape)
        raw = stub.ModelInfer(request, timeout=60).raw_output_contents[0]
        return np.frombuffer(raw, np.float32).reshape(-1, 10).argmax(axis=1)

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        predicted = np.concatenate(list(pool.map(classify, mixed_sizes(len(images)))))
    card = json.loads((root / "models" / "mnist-cnn" / "1" / "card.json").read_text())
    claimed = round(card["evaluation"]["metrics"]["accuracy"] * 10_000)
    assert card["evaluation"]["samples"] == 10_000
    assert abs(int((predicted == labels).sum()) - claimed) <= 1
