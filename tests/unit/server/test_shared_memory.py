"""A request's bytes in shared memory are counted before they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.api.accounting import Accounting
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.codec import InferRequest
from pixelserve_server.api.shared_memory import fetch_inputs
from pixelserve_server.engine.regions import Region, Regions
from pixelserve_server.errors import InvalidRequest, QueueFull


@pytest.fixture
def regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Regions:
    """A region of 1 GiB, called `all`, of which no more than 100 bytes may be read at once."""
    with (tmp_path / "object").open("wb") as file:
        file.truncate(1 << 30)
    read = Region.read

    def read_little(region: Region, offset: int, byte_size: int) -> bytes:
        assert byte_size <= 100, "it was read before it was refused"
        return read(region, offset, byte_size)

    monkeypatch.setattr(Region, "read", read_little)
    regions = Regions(tmp_path, max_read_bytes=100)
    regions.register("all", "/object", 0, 1 << 30)
    return regions


def request(*byte_sizes: int) -> InferRequest:
    head = pb.ModelInferRequest(model_name="m")
    for number, byte_size in enumerate(byte_sizes):
        parameters = head.inputs.add(name=str(number)).parameters
        parameters["shared_memory_region"].string_param = "all"
        parameters["shared_memory_byte_size"].int64_param = byte_size
    return InferRequest(head, [])


@pytest.fixture
def make_call(recorded_call: Callable[..., Any]) -> Callable[[], Any]:
    """Makes calls that were admitted where 100 bytes may be in flight."""
    admission = Admission(100)

    def make() -> Any:
        call = recorded_call()
        call.begin("/a.Method", Accounting(admission, None, None), 0, None)
        admission.admit(call, 0)
        return call

    return make


@pytest.mark.parametrize("byte_sizes", [(1 << 30,), (101,), (50, 51)])
def test_more_than_may_be_in_flight_is_refused_although_nothing_else_is(
    regions: Regions, make_call: Callable[[], Any], byte_sizes: tuple[int, ...]
) -> None:
    said = f"the inputs have {sum(byte_sizes):,} bytes in shared memory; at most 100 are read"
    with pytest.raises(InvalidRequest, match=said):
        fetch_inputs(request(*byte_sizes), regions, make_call())


def test_what_is_read_is_in_flight_until_the_call_is_answered(regions: Regions, make_call: Callable[[], Any]) -> None:
    first, second = make_call(), make_call()
    assert [bytes(raw) for raw in fetch_inputs(request(60, 30), regions, first).raw] == [bytes(60), bytes(30)]
    with pytest.raises(QueueFull, match="90 bytes of requests and answers are in flight, this one has 11"):
        fetch_inputs(request(11), regions, second)
    first.reply(b"")
    assert len(fetch_inputs(request(11), regions, second).raw) == 1
