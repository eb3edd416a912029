"""The channels that carry the load."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc

from pixelserve.client.channel import Configuration


@contextmanager
def open_channels(configuration: Configuration) -> Iterator[list[grpc.Channel]]:
    """Opens the client's channels, for callers that prepare their own bytes, and closes them at the end.

    gRPC's own retries are disabled, because they would hide latency.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_channel(configuration, number)) for number in range(len(configuration.endpoints))]


def _channel(configuration: Configuration, number: int) -> grpc.Channel:
    endpoint = configuration.endpoints[number]
    if configuration.credentials:
        return grpc.secure_channel(endpoint.target, configuration.credentials, endpoint.options)
    return grpc.insecure_channel(endpoint.target, endpoint.options)
