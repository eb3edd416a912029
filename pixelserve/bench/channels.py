"""The channels that load goes over."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc

from pixelserve.client.channel import Configuration


@contextmanager
def open_channels(configuration: Configuration) -> Iterator[list[grpc.Channel]]:
    """Opens what the client would open, for callers that make their bytes themselves; closes it at the end.

    Retries of gRPC's own are off in them: they would hide from the figures what a user waits for.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_channel(configuration, number)) for number in range(len(configuration.endpoints))]


def _channel(configuration: Configuration, number: int) -> grpc.Channel:
    endpoint = configuration.endpoints[number]
    if configuration.credentials:
        return grpc.secure_channel(endpoint.target, configuration.credentials, endpoint.options)
    return grpc.insecure_channel(endpoint.target, endpoint.options)
