"""Models with independent rows are distinguished from others, whatever they compute."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from pixelserve.rows import Input, distinct_rows, made_up_rows, prove_rows, repeat_rows

WEIGHTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(2).normal(size=(3, 4)).astype(np.float32)
Model = Callable[[Any], Any]


def model(compute: Model) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda inputs: {"y": compute(inputs["x"])}


def softmax(x: Any, axis: int) -> Any:
    powers = np.exp(x)
    return powers / powers.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize(
    "compute",
    [
        pytest.param(lambda x: x @ WEIGHTS, id="a layer"),
        pytest.param(lambda x: softmax(x, 1), id="a softmax over classes"),
        pytest.param(lambda x: np.where(x < 0, np.nan, x), id="numbers that are none, in the same places"),
        pytest.param(lambda x: np.where(x < 0, -np.inf, x), id="infinities in the same places"),
        pytest.param(lambda x: x * np.float32(1 + 1e-6 * len(x)), id="rounding that depends on the batch"),
        pytest.param(lambda x: x.argmax(axis=1), id="whole numbers"),
        pytest.param(lambda x: np.array([f"{row[0]:.3f}" for row in x], dtype=object), id="strings"),
        pytest.param(lambda x: np.zeros((len(x), 0), np.float32), id="no elements"),
    ],
)
def test_rows_that_are_computed_by_themselves_are_independent(compute: Model) -> None:
    proof = prove_rows(model(compute), {"x": X}, padded=8)
    assert (proof.state, proof.allows_merging) == ("independent", True), proof.reason


def batch_normalization(x: Any) -> Any:
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)


def quantized_by_the_batch(x: Any) -> Any:
    step = np.abs(x).max() / 127
    return np.round(x / step) * step


def in_arrival_order(x: Any) -> Any:
    return x + np.arange(len(x), dtype=np.float32)[:, None]


def place_of(row: Any) -> int:
    return int(np.flatnonzero((row == X).all(axis=1))[0])


def only_when_padded(x: Any) -> Any:
    return x + np.float32(len(x) > 3)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        pytest.param(batch_normalization, "differs by", id="normalization over the batch"),
        pytest.param(lambda x: softmax(x, 0), "differs by", id="a softmax over the batch"),
        pytest.param(lambda x: x - x.mean(), "differs by", id="a mean of all rows"),
        pytest.param(quantized_by_the_batch, "differs by", id="a quantization range of all rows"),
        pytest.param(in_arrival_order, "differs by", id="a place in the batch"),
        pytest.param(only_when_padded, "when it is padded to 8 rows", id="padding"),
        pytest.param(lambda x: x.argsort(axis=0), "differs by", id="whole numbers that depend on other rows"),
        pytest.param(lambda x: x[np.newaxis], "shape [1, 3, 4] for a batch of 3", id="another axis"),
        pytest.param(lambda x: x.reshape(-1, 2), "shape [2, 2] for a batch of 1", id="two rows for each"),
        pytest.param(lambda x: x[:1], "shape [1, 4] for a batch of 3", id="one row for all"),
        pytest.param(lambda x: np.float32(x.sum()), "shape [] for a batch of 1", id="no rows"),
        pytest.param(
            lambda x: x[:, : 1 + place_of(x[0])], "has another shape for another row", id="a width by the values"
        ),
        pytest.param(lambda x: np.where(len(x) > 1, np.nan, x), "differs by inf", id="NaN in company"),
        pytest.param(lambda x: np.array([str(x.sum())] * len(x), dtype=object), "differs", id="strings of all rows"),
    ],
)
def test_rows_that_depend_on_others_are_dependent(compute: Model, said: str) -> None:
    proof = prove_rows(model(compute), {"x": X}, padded=8)
    assert (proof.state, proof.allows_merging) == ("dependent", False)
    assert said in proof.reason
    assert proof.reason.startswith("output y ")


def test_a_model_that_draws_random_numbers_is_dependent() -> None:
    random = np.random.default_rng(0)
    proof = prove_rows(model(lambda x: x + random.normal(size=x.shape)), {"x": X})
    assert proof.state == "dependent"
    assert proof.reason.endswith("the model draws random numbers, or keeps a state")


@pytest.mark.parametrize(
    ("precision", "floor", "state"),
    [(None, 0.0, "dependent"), ("float16", 0.0, "independent"), (None, 0.1, "independent")],
)
def test_the_tolerance_is_the_precisions_or_the_devices(precision: str | None, floor: float, state: str) -> None:
    compute = model(lambda x: x * np.float32(1 + 1e-3 * (len(x) > 1)))
    assert prove_rows(compute, {"x": X}, precision=precision, floor=floor).state == state


def test_every_output_must_hold() -> None:
    proof = prove_rows(lambda inputs: {"good": inputs["x"], "bad": batch_normalization(inputs["x"])}, {"x": X})
    assert proof.reason.startswith("output bad ")


def test_equal_rows_are_taken_once() -> None:
    inputs = {
        "x": np.array([[1], [1], [2], [1], [3], [4]]),
        "s": np.array(["a", "a", "a", "b", "a", "a"], dtype=object),
    }
    found = distinct_rows(inputs)
    assert (found["x"].tolist(), found["s"].tolist()) == ([[1], [2], [1]], ["a", "a", "b"])


def test_rows_are_repeated_to_make_a_batch() -> None:
    assert repeat_rows({"x": np.array([[1], [2], [3]])}, 5)["x"].tolist() == [[1], [2], [3], [1], [2]]


def test_made_up_rows_fit_the_inputs_and_differ() -> None:
    wanted = {
        "image": Input(np.dtype("u1"), (-1, 4, 4, 3)),
        "weight": Input(np.dtype("f2"), (-1, 5)),
        "index": Input(np.dtype("i8"), (-1,)),
        "text": Input(np.dtype("O"), (-1, 2)),
        "flag": Input(np.dtype("?"), (-1, 9)),
    }
    (made,) = made_up_rows(wanted)
    assert {name: (array.dtype, array.shape) for name, array in made.items()} == {
        name: (each.dtype, (3, *each.shape[1:])) for name, each in wanted.items()
    }
    assert len(distinct_rows(made)["image"]) == 3
    assert made["index"].min() >= 1
    assert all(float(text) > 0 for text in made["text"].ravel())


def test_values_that_would_take_much_memory_are_not_made_up() -> None:
    assert not list(made_up_rows({"x": Input(np.dtype("f4"), (-1, 4096, 4096, 3))}))
    sizes = [made["x"].shape[1] for made in made_up_rows({"x": Input(np.dtype("f4"), (-1, -1, -1, -1, -1))})]
    assert sizes == [32, 8, 1]


def test_free_dimensions_are_tried_in_several_sizes() -> None:
    sizes = [made["x"].shape for made in made_up_rows({"x": Input(np.dtype("f4"), (-1, 3, -1, -1))})]
    assert sizes == [(3, 3, 32, 32), (3, 3, 224, 224), (3, 3, 8, 8), (3, 3, 1, 1)]
