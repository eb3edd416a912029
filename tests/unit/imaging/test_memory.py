"""A picture takes no more memory than is promised before it is decoded."""

import sys

import pytest

from benchmarks import decode_memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process took at most")
@pytest.mark.parametrize("name", decode_memory.CASES)
def test_a_picture_takes_no_more_memory_than_is_promised(name: str) -> None:
    ((_, _, figures),) = decode_memory.measure([name], 2400, 1600)
    for spec, each in zip(decode_memory.SPECS, figures, strict=True):
        assert each.is_kept, f"{spec}: {each.measured:,} bytes of {each.promised:,}"
