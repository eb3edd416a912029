"""ModelInfer's messages to tensors and back: every decoding row of the protocol's table."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.codec import SMALL_BYTES, decode_inputs, encode_bytes, encode_output, parse
from pixelserve_server.engine.tensors import BY_NAME, FREE, TensorSpec
from pixelserve_server.errors import InvalidRequest
from pixelserve_server.repository.config import ModelConfig

Configure = Callable[..., ModelConfig]
Tensor = pb.ModelInferRequest.InferInputTensor


def tensor(name: str = "x", datatype: str = "FP32", shape: Sequence[int] = (1, 2), **contents: Any) -> Tensor:
    """Returns an input tensor; with typed contents where any are given."""
    message = Tensor(name=name, datatype=datatype, shape=shape)
    if contents:
        message.contents.CopyFrom(pb.InferTensorContents(**contents))
    return message


def request(*inputs: Tensor, raw: Sequence[bytes] = ()) -> bytes:
    return pb.ModelInferRequest(model_name="m", inputs=inputs, raw_input_contents=raw).SerializeToString()


def decode(message: bytes, config: ModelConfig) -> tuple[dict[str, Any], int]:
    return decode_inputs(parse(message), config)


TWO_FLOATS = bytes(8)
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
    # As bits.
    "BF16": [0, 2**16 - 1],
    "FP32": [-0.5, float("inf")],
    "FP64": [-0.1, 1e300],
    "BYTES": ["", "größer"],
}
FIELDS = {
    **{"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"},
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    **{"INT64": "int64_contents", "UINT64": "uint64_contents"},
}


def expected_array(datatype: str) -> Any:
    return np.array([VALUES[datatype]], BY_NAME[datatype].dtype)


def test_the_table_of_values_has_every_datatype() -> None:
    assert VALUES.keys() == BY_NAME.keys()


@pytest.mark.parametrize("datatype", VALUES)
def test_raw_contents_of_every_datatype_become_its_array(datatype: str, model_config: Configure) -> None:
    expected = expected_array(datatype)
    raw = encode_bytes([item.encode() for item in VALUES["BYTES"]]) if datatype == "BYTES" else expected.tobytes()
    arrays, rows = decode(request(tensor(datatype=datatype), raw=[raw]), model_config(x=(datatype, (FREE, 2))))
    assert rows == 1
    np.testing.assert_array_equal(arrays["x"], expected, strict=True)


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_contents_of_every_datatype_become_its_array(datatype: str, model_config: Configure) -> None:
    values = [item.encode() for item in VALUES["BYTES"]] if datatype == "BYTES" else VALUES[datatype]
    message = request(tensor(datatype=datatype, **{FIELDS[datatype]: values}))
    arrays, rows = decode(message, model_config(x=(datatype, (FREE, 2))))
    assert rows == 1
    np.testing.assert_array_equal(arrays["x"], expected_array(datatype), strict=True)


def test_elements_are_laid_out_row_by_row(model_config: Configure) -> None:
    arrays, rows = decode(
        request(tensor(shape=[2, 3], datatype="UINT8"), raw=[bytes(range(6))]), model_config(x=("UINT8", (FREE, 3)))
    )
    assert rows == 2
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_array_of_many_raw_bytes_is_a_view_of_the_message(model_config: Configure) -> None:
    message = request(tensor(datatype="UINT8", shape=[1, SMALL_BYTES]), raw=[bytes(SMALL_BYTES)])
    arrays, _ = decode(message, model_config(x=("UINT8", (FREE, SMALL_BYTES))))
    assert np.shares_memory(arrays["x"], np.frombuffer(message, np.uint8))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT64"])
def test_an_array_is_aligned_wherever_its_bytes_begin_in_the_message(datatype: str, model_config: Configure) -> None:
    dtype = BY_NAME[datatype].dtype
    expected = np.arange(SMALL_BYTES, dtype=dtype)[None] % 100
    config = model_config(x=(datatype, expected.shape))
    views = copies = 0
    # Every length of the id moves the raw bytes by one.
    for shift in range(1, 1 + 2 * dtype.itemsize):
        message = pb.ModelInferRequest(
            id="i" * shift,
            inputs=[tensor(datatype=datatype, shape=expected.shape)],
            raw_input_contents=[expected.tobytes()],
        ).SerializeToString()
        array = decode(message, config)[0]["x"]
        assert array.flags.aligned
        np.testing.assert_array_equal(array, expected, strict=True)
        is_view = np.shares_memory(array, np.frombuffer(message, np.uint8))
        views, copies = views + is_view, copies + (not is_view)
    # It is copied only where it must be.
    assert (views, copies) == (2, 2 * dtype.itemsize - 2)


def test_inputs_come_back_in_the_models_order_whatever_the_requests(model_config: Configure) -> None:
    config = model_config(a=("UINT8", (FREE,)), b=("INT8", (FREE,)))
    message = request(tensor("b", "INT8", [1]), tensor("a", "UINT8", [1]), raw=[b"\xff", b"\x07"])
    arrays, _ = decode(message, config)
    assert list(arrays) == ["a", "b"]
    assert (arrays["a"].item(), arrays["b"].item()) == (7, -1)


def test_a_model_without_a_batch_dimension_has_one_row_whatever_its_shapes(model_config: Configure) -> None:
    config = model_config(0, a=("UINT8", (3,)), b=("UINT8", (FREE, 2)), c=("UINT8", ()))
    message = request(
        tensor("a", "UINT8", [3]), tensor("b", "UINT8", [0, 2]), tensor("c", "UINT8", []), raw=[b"abc", b"", b"d"]
    )
    arrays, rows = decode(message, config)
    assert rows == 1
    assert [array.shape for array in arrays.values()] == [(3,), (0, 2), ()]


X = {"x": ("FP32", (FREE, 2))}
AB = {"a": ("UINT8", (FREE,)), "b": ("UINT8", (FREE,))}
WORDS = {"x": ("BYTES", (FREE, 2))}
WRONG_REQUESTS = {
    # Datatype, rank and shape
    "another datatype": (X, request(tensor(datatype="FP64"), raw=[bytes(16)]), '"FP64"; expected FP32'),
    "no datatype": (X, request(tensor(datatype=""), raw=[TWO_FLOATS]), '""; expected FP32'),
    "an unknown datatype": (X, request(tensor(datatype="fp32"), raw=[TWO_FLOATS]), '"fp32"; expected FP32'),
    "too low a rank": (X, request(tensor(shape=[2]), raw=[TWO_FLOATS]), r"shape \[2\]; expected \[-1, 2\]"),
    "too high a rank": (X, request(tensor(shape=[1, 2, 1]), raw=[TWO_FLOATS]), r"\[1, 2, 1\]; expected \[-1, 2\]"),
    "no shape": (X, request(tensor(shape=[]), raw=[TWO_FLOATS]), r"shape \[\]; expected \[-1, 2\]"),
    "another size": (X, request(tensor(shape=[1, 3]), raw=[bytes(12)]), r"\[1, 3\]; expected \[-1, 2\]"),
    "minus one in a fixed dimension": (X, request(tensor(shape=[1, -1]), raw=[TWO_FLOATS]), r"\[1, -1\]; expected"),
    # Rows
    "minus one rows": (X, request(tensor(shape=[-1, 2]), raw=[TWO_FLOATS]), r"shape \[-1, 2\]; expected"),
    "no rows": (X, request(tensor(shape=[0, 2]), raw=[b""]), "0 rows; expected 1 to 8"),
    "more rows than max_batch_size": (X, request(tensor(shape=[9, 2]), raw=[bytes(72)]), "9 rows; expected 1 to 8"),
    "inputs that disagree on the rows": (
        AB,
        request(tensor("a", "UINT8", [1]), tensor("b", "UINT8", [2]), raw=[b"a", b"bc"]),
        "disagree on the rows.*'a': 1, 'b': 2",
    ),
    # Names
    "no inputs": (X, request(), "input x is missing"),
    "a missing input": (AB, request(tensor("a", "UINT8", [1]), raw=[b"a"]), "input b is missing; expected a, b"),
    "an unknown input": (X, request(tensor("z"), raw=[TWO_FLOATS]), 'no input "z"; it has x'),
    "an unknown input beside a known one": (
        X,
        request(tensor("x"), tensor("z"), raw=[TWO_FLOATS, TWO_FLOATS]),
        'no input "z"; it has x',
    ),
    "an input without a name": (X, request(tensor(""), raw=[TWO_FLOATS]), 'no input ""; it has x'),
    "an input twice": (X, request(tensor(), tensor(), raw=[TWO_FLOATS, TWO_FLOATS]), "an input occurs twice"),
    # Where the data is
    "neither raw nor typed": (X, request(tensor()), "input x has no data"),
    "typed for one input only": (
        AB,
        request(tensor("a", "UINT8", [1], uint_contents=[1]), tensor("b", "UINT8", [1])),
        "input b has no data",
    ),
    "both raw and typed": (
        X,
        request(tensor(fp32_contents=[1, 2]), raw=[TWO_FLOATS]),
        "input x has typed contents and .*raw_input_contents too",
    ),
    "fewer raw buffers than inputs": (
        AB,
        request(tensor("a", "UINT8", [1]), tensor("b", "UINT8", [1]), raw=[b"a"]),
        "2 inputs and 1 buffers",
    ),
    "more raw buffers than inputs": (X, request(tensor(), raw=[TWO_FLOATS, b""]), "1 inputs and 2 buffers"),
    "raw buffers without inputs": (X, request(raw=[TWO_FLOATS]), "0 inputs and 1 buffers"),
    # Sizes
    "one raw byte too few": (X, request(tensor(), raw=[bytes(7)]), "7 raw bytes; .*make 8"),
    "one raw byte too many": (X, request(tensor(), raw=[bytes(9)]), "9 raw bytes; .*make 8"),
    "an empty raw buffer": (X, request(tensor(), raw=[b""]), "0 raw bytes; .*make 8"),
    "too few typed elements": (X, request(tensor(fp32_contents=[1])), "1 elements in fp32_contents; .*needs 2"),
    "too many typed elements": (X, request(tensor(fp32_contents=[1, 2, 3])), "3 elements in fp32_contents; .*needs 2"),
    "empty typed contents": (
        X,
        request(Tensor(name="x", datatype="FP32", shape=[1, 2], contents=pb.InferTensorContents())),
        "0 elements in fp32_contents; .*needs 2",
    ),
    "a shape whose product is huge": (
        {"x": ("FP32", (FREE, FREE, FREE))},
        request(tensor(shape=[8, 2**62, 2**62]), raw=[TWO_FLOATS]),
        f"8 raw bytes; .*make {8 * 2**124 * 4}",
    ),
    "a shape whose product wraps to the right size": (
        {"x": ("UINT8", (FREE, FREE, FREE))},
        request(tensor(datatype="UINT8", shape=[4, 2**62, 2**2]), raw=[b""]),
        f"0 raw bytes; .*make {2**66}",
    ),
    "a huge shape of no elements": (
        {"x": ("FP32", (FREE, FREE, FREE))},
        request(tensor(shape=[1, 0, 2**62]), raw=[b""]),
        f"shape \\[1, 0, {2**62}\\], which is too large",
    ),
    # Typed contents
    "typed in the wrong field": (X, request(tensor(fp64_contents=[1, 2])), "came in fp64_contents; expected fp32"),
    "typed in two fields": (
        X,
        request(tensor(fp32_contents=[1, 2], int_contents=[1])),
        "came in int_contents; expected fp32_contents",
    ),
    "typed FP16": (
        {"x": ("FP16", (FREE, 2))},
        request(tensor(datatype="FP16", fp32_contents=[1, 2])),
        "FP16 has no typed contents; send it in raw_input_contents",
    ),
    "an UINT8 above 255": (
        {"x": ("UINT8", (FREE, 2))},
        request(tensor(datatype="UINT8", uint_contents=[1, 256])),
        "does not fit UINT8",
    ),
    "an INT8 below -128": (
        {"x": ("INT8", (FREE, 2))},
        request(tensor(datatype="INT8", int_contents=[1, -129])),
        "does not fit INT8",
    ),
    # BYTES
    "a BYTES element longer than the buffer": (
        WORDS,
        request(tensor(datatype="BYTES"), raw=[encode_bytes([b"ab"]) + struct.pack("<I", 2) + b"c"]),
        "element 1 of the BYTES tensor is longer",
    ),
    "a BYTES element of 4 GiB": (
        WORDS,
        request(tensor(datatype="BYTES"), raw=[b"\xff\xff\xff\xffab"]),
        "element 0 of the BYTES tensor is longer",
    ),
    "half a length in a BYTES tensor": (
        WORDS,
        request(tensor(datatype="BYTES"), raw=[encode_bytes([b"a", b"b"]) + b"\x00\x00"]),
        "element 2 of the BYTES tensor is longer",
    ),
    "too few BYTES elements": (
        WORDS,
        request(tensor(datatype="BYTES"), raw=[encode_bytes([b"a"])]),
        "1 BYTES elements; its shape needs 2",
    ),
    "too many BYTES elements": (
        WORDS,
        request(tensor(datatype="BYTES"), raw=[encode_bytes([b"a", b"b", b"c"])]),
        "more than 2 BYTES elements; its shape needs 2",
    ),
    "no BYTES elements": (WORDS, request(tensor(datatype="BYTES"), raw=[b""]), "0 BYTES elements; its shape needs 2"),
    "raw BYTES that are not UTF-8": (
        WORDS,
        request(tensor(datatype="BYTES"), raw=[encode_bytes([b"a", b"\xff"])]),
        "not UTF-8",
    ),
    "typed BYTES that are not UTF-8": (
        WORDS,
        request(tensor(datatype="BYTES", bytes_contents=[b"a", b"\xff"])),
        "not UTF-8",
    ),
}


@pytest.mark.parametrize(("inputs", "message", "said"), WRONG_REQUESTS.values(), ids=WRONG_REQUESTS)
def test_a_wrong_request_is_refused_and_told_why(
    inputs: dict[str, Any], message: bytes, said: str, model_config: Configure
) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        decode(message, model_config(**inputs))
    assert str(caught.value).startswith("model m")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xff", id="one odd byte"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(b"\x0a\x02\xff\xff", id="a model name that is not UTF-8"),
        pytest.param(request(tensor(), raw=[TWO_FLOATS])[:-1], id="cut off in the raw contents"),
        pytest.param(request(tensor())[:-1], id="cut off in the head"),
    ],
)
def test_bytes_that_are_no_request_are_refused(message: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the request is not a ModelInferRequest: "):
        parse(message)


@pytest.mark.parametrize("datatype", VALUES)
def test_an_output_of_every_datatype_is_encoded_as_an_input_is_decoded(datatype: str, model_config: Configure) -> None:
    array = expected_array(datatype)
    response = pb.ModelInferResponse()
    encode_output(response, TensorSpec("x", BY_NAME[datatype], (FREE, 2)), array)
    assert [(out.name, out.datatype, list(out.shape)) for out in response.outputs] == [("x", datatype, [1, 2])]
    back = decode(
        request(tensor(datatype=datatype), raw=list(response.raw_output_contents)),
        model_config(x=(datatype, (FREE, 2))),
    )[0]["x"]
    np.testing.assert_array_equal(back, array, strict=True)


def test_an_output_that_is_not_contiguous_is_sent_row_by_row() -> None:
    response = pb.ModelInferResponse()
    array = np.arange(6, dtype=np.uint8).reshape(3, 2).T
    encode_output(response, TensorSpec("x", BY_NAME["UINT8"], (FREE, 3)), array)
    assert list(response.raw_output_contents) == [bytes([0, 2, 4, 1, 3, 5])]


def test_bytes_elements_travel_behind_their_length_as_little_endian_uint32() -> None:
    assert encode_bytes([b"ab", b""]) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
