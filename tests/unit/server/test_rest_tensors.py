"""Tensors in JSON, to raw bytes and back."""

from typing import Any

import numpy as np
import pytest

from pixelserve_server.api.codec import encode_bytes
from pixelserve_server.api.rest.tensors import pack, unpack
from pixelserve_server.engine.tensors import BY_NAME
from pixelserve_server.errors import InvalidRequest

# The extremes of every datatype.
VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [-0.5, 65504.0],
    "FP32": [-0.5, 3.4028234663852886e38],
    "FP64": [-0.1, 1.7976931348623157e308],
    "BYTES": ["", "größer\0"],
}


def test_every_datatype_is_tried() -> None:
    assert {*VALUES, "BF16"} == set(BY_NAME)


def test_bfloat16_has_no_form_in_json() -> None:
    with pytest.raises(InvalidRequest, match="here is BF16, which JSON cannot represent; send it as binary data"):
        pack([1.5], [1], BY_NAME["BF16"], "here")
    with pytest.raises(InvalidRequest, match="request it as binary data"):
        unpack(bytes(2), BY_NAME["BF16"], "here")


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_elements_go_in_and_come_out(name: str, nested: bool) -> None:
    values, datatype = VALUES[name], BY_NAME[name]
    raw = pack([[value] for value in values] if nested else values, [2, 1], datatype, "here")
    expected = encode_bytes([v.encode() for v in values]) if name == "BYTES" else np.array(values, datatype.dtype)
    assert raw == (expected if isinstance(expected, bytes) else expected.tobytes())
    assert unpack(raw, datatype, "here") == values


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((name, [0, 2**bits]) for name, bits in {"UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64}.items()),
        *((name, [0, -1]) for name in ("UINT8", "UINT16", "UINT32", "UINT64")),
        *((name, [0, 2 ** (b - 1)]) for name, b in {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64}.items()),
        *((name, [0, -(2 ** (b - 1)) - 1]) for name, b in {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64}.items()),
        ("FP16", [0, 65520]),
        ("FP32", [0, 1e39]),
        ("FP32", [0, -1e39]),
        ("FP64", [0, 10**400]),
        # What json makes of 1e999.
        ("FP64", [0, float("inf")]),
    ],
    ids=str,
)
def test_a_number_out_of_range_is_refused(name: str, data: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match=f"^here has an element that does not fit {name}$"):
        pack(data, [2], BY_NAME[name], "here")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("FP32", ["1.0", 2], 'here has "1.0" in data; expected numbers for FP32'),
        ("FP32", [True, 2], "here has true in data; expected numbers"),
        ("FP32", [None, 2], "here has null in data"),
        ("FP32", [1, [2]], "here has a list in data"),
        ("FP32", [1, {"a": 1}], "here has an object in data"),
        ("INT32", [1.0, 2], "here has 1.0 in data; expected whole numbers for INT32"),
        ("UINT8", [True, 2], "here has true in data; expected whole numbers"),
        ("BOOL", [1, True], "here has 1 in data; expected true or false for BOOL"),
        ("BYTES", ["a", 1], "here has 1 in data; expected strings for BYTES"),
        ("BYTES", ["a", "b" * 10], None),
        ("FP32", ["x" * 100, 1], 'here has "' + "x" * 39 + "… in data"),
    ],
    ids=str,
)
def test_an_element_of_another_kind_is_refused(name: str, data: list[Any], said: str | None) -> None:
    if said is None:
        assert pack(data, [2], BY_NAME[name], "here")
        return
    with pytest.raises(InvalidRequest) as caught:
        pack(data, [2], BY_NAME[name], "here")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        ([1, 2, 3], [2, 2], "here has 3 elements in data; its shape needs 4"),
        ([], [1], "here has 0 elements in data; its shape needs 1"),
        ([[1, 2], [3]], [2, 2], "here has ragged data"),
        ([[1, 2], 3], [2, 2], "here has ragged data"),
        ([[1, 2], [[3], [4]]], [2, 2], "here has a list in data"),
        ([[1, 2, 3, 4]], [2, 2], "here has data of shape [1, 4]; its shape says [2, 2]"),
        ([[[1, 2], [3, 4]]], [2, 2], "here has data of shape [1, 2, 2]; its shape says [2, 2]"),
        (1, [1], "here has 1 for data; expected a list"),
        ({"0": 1}, [1], "here has an object for data; expected a list"),
    ],
    ids=str,
)
def test_data_of_another_shape_is_refused(data: Any, shape: list[int], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        pack(data, shape, BY_NAME["FP32"], "here")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("data", "shape"), [([], [0]), ([], [0, 4]), ([[], []], [2, 0])], ids=str)
def test_a_tensor_may_be_empty(data: Any, shape: list[int]) -> None:
    assert pack(data, shape, BY_NAME["FP32"], "here") == b""


def test_a_negative_dimension_is_left_for_the_models_signature_to_refuse() -> None:
    assert len(pack([1, 2, 3, 4], [-1, 4], BY_NAME["FP32"], "here")) == 16


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("name", ["FP16", "FP32", "FP64"])
def test_what_json_cannot_say_is_not_said(name: str, value: float) -> None:
    raw = np.array([0, value], BY_NAME[name].dtype).tobytes()
    with pytest.raises(InvalidRequest, match=r"^here has NaN or infinity, .* binary_data$"):
        unpack(raw, BY_NAME[name], "here")
