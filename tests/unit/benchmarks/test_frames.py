"""The frames of our load generator."""

import hpack
import numpy as np
import pytest

from benchmarks.compare import frames
from benchmarks.compare.bodies import Images
from benchmarks.compare.frames import Frame, FrameReader, RequestFrames
from pixelserve.oip import inference_pb2 as pb


@pytest.fixture(scope="module")
def images() -> Images:
    """Three images without an equal pixel between them."""
    return np.repeat(np.array([1, 2, 3], np.uint8), 784).reshape(3, 28, 28, 1)


@pytest.fixture(scope="module")
def requests(images: Images) -> RequestFrames:
    return RequestFrames(images, "127.0.0.1:8001")


def read(sent: bytes) -> list[Frame]:
    return list(FrameReader().feed(sent))


def message(data: Frame) -> pb.ModelInferRequest:
    assert data.payload[0] == 0
    assert int.from_bytes(data.payload[1:5], "big") == len(data.payload) - 5
    return pb.ModelInferRequest.FromString(data.payload[5:])


def test_a_request_is_headers_and_a_message_that_ends_its_stream(requests: RequestFrames) -> None:
    sent = read(requests.make(7, np.array([0, 1])))
    assert [(one.kind, one.flags, one.stream) for one in sent] == [
        *((frames.HEADERS, frames.END_HEADERS, 7), (frames.DATA, frames.END_STREAM, 7)),
        *((frames.HEADERS, frames.END_HEADERS, 9), (frames.DATA, frames.END_STREAM, 9)),
    ]


def test_every_request_has_the_id_and_the_pixels_of_its_number(requests: RequestFrames, images: Images) -> None:
    numbers = np.array([1, 5, 70_000, 2**32 - 1])
    sent = [message(one) for one in read(requests.make(1, numbers)) if one.kind == frames.DATA]
    assert [one.id for one in sent] == ["0000000000000001", "0000000000000005", "0000000000011170", "00000000ffffffff"]
    for one, number in zip(sent, numbers, strict=True):
        assert one.raw_input_contents[0] == frames.stamp(images, int(number)).tobytes()
        assert one.id == frames.identity(int(number))
    assert len({one.raw_input_contents[0] for one in sent}) == len(sent)


def test_equal_numbers_make_equal_bodies(requests: RequestFrames) -> None:
    sent = [one.payload for one in read(requests.make(1, np.zeros(3, np.int64))) if one.kind == frames.DATA]
    assert sent == [sent[0]] * 3


def test_a_request_is_as_long_as_it_says(requests: RequestFrames) -> None:
    made = requests.make(1, np.arange(5))
    assert len(made) == 5 * requests.request_bytes
    assert {len(one.payload) for one in read(made) if one.kind == frames.DATA} == {requests.message_bytes}


def test_stamping_leaves_the_image_itself_alone(images: Images) -> None:
    before = images.copy()
    stamped = frames.stamp(images, 4)
    assert (images == before).all()
    assert stamped.shape == (1, 28, 28, 1)
    assert list(stamped.reshape(-1)[:5]) == [0, 0, 0, 4, 2]


def test_the_header_block_is_a_grpc_call_and_leaves_no_trace_in_the_table() -> None:
    decoder = hpack.Decoder()
    block = frames.header_block("127.0.0.1:8001")
    first, second = dict(decoder.decode(block)), dict(decoder.decode(block))
    assert first == second
    assert first[":path"] == "/inference.GRPCInferenceService/ModelInfer"
    assert (first[":method"], first["te"], first["content-type"]) == ("POST", "trailers", "application/grpc")
    assert len(decoder.header_table.dynamic_entries) == 0


@pytest.mark.parametrize("step", [1, 3, 9, 10, 1000])
def test_frames_come_out_whole_however_the_bytes_arrive(requests: RequestFrames, step: int) -> None:
    sent = requests.make(1, np.arange(4))
    reader = FrameReader()
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    assert [one for piece in pieces for one in reader.feed(piece)] == read(sent)


def test_the_opening_asks_for_no_header_table_and_the_largest_windows() -> None:
    opening = frames.opening()
    assert opening.startswith(frames.PREFACE)
    asked, window = read(opening[len(frames.PREFACE) :])
    assert frames.settings(asked.payload) == {frames.HEADER_TABLE_SIZE: 0, frames.INITIAL_WINDOW_SIZE: 2**31 - 1}
    assert (window.kind, window.stream) == (frames.WINDOW_UPDATE, 0)
    assert int.from_bytes(window.payload, "big") + frames.DEFAULT_WINDOW == frames.LARGEST_WINDOW
