"""The W3C headers of a caller's trace."""

from collections.abc import Sequence

import pytest

from pixelserve_server.observe.calls import trace_parent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        # Flags that are unknown yet change nothing.
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        # A later version may have more to say.
        (f"cc-{TRACE}-{SPAN}-01-what the future brings", True),
    ],
)
def test_a_header_of_the_standard_is_read(header: str, is_sampled: bool) -> None:
    parent = trace_parent([("user-agent", "x"), ("traceparent", header), ("tracestate", "vendor=1")])
    assert parent is not None
    assert (parent.trace_id, parent.is_sampled) == (TRACE, is_sampled)
    assert parent.headers == {"traceparent": header, "tracestate": "vendor=1"}


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        [("tracestate", "vendor=1")],
        [("traceparent", "")],
        [("traceparent", f"00-{TRACE}-{SPAN}")],
        [("traceparent", f"00-{TRACE.upper()}-{SPAN}-01")],
        [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{'0' * 16}-01")],
        [("traceparent", f"ff-{TRACE}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{SPAN}-01\n")],
        [("traceparent", f" 00-{TRACE}-{SPAN}-01")],
        [("traceparent", f"00-{TRACE}-{SPAN}-01".encode())],
        [("traceparent", "0" * 100_000)],
    ],
)
def test_anything_else_is_not_a_trace(metadata: Sequence[tuple[str, str | bytes]]) -> None:
    assert trace_parent(metadata) is None
