"""The client SDK: pictures in, labels out, from any PixelServe server.

    >>> with Client("127.0.0.1:8001") as client:
    ...     client.classify("seven.png", model="mnist-cnn").label
    '7'

`Client` is for threads, `AsyncClient` for asyncio. Both need the base installation only. docs/client.md is the guide.
"""

from .aio import AsyncClient
from .batching import Inversion
from .errors import (
    CallError,
    Cancelled,
    ClosedError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    NotNow,
    PermissionDenied,
    PictureError,
    PixelServeClientError,
    RequestRefused,
    ResourceExhausted,
    ServerFailed,
    SettingsError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .limits import Retry, Tls
from .models import ModelVersion, Tensor
from .pictures import Picture
from .predictions import Class, Prediction
from .sync import Client

__all__ = [
    "AsyncClient",
    "CallError",
    "Cancelled",
    "Class",
    "Client",
    "ClosedError",
    "DeadlineExceeded",
    "InternalError",
    "InvalidRequest",
    "Inversion",
    "ModelVersion",
    "NotFound",
    "NotNow",
    "PermissionDenied",
    "Picture",
    "PictureError",
    "PixelServeClientError",
    "Prediction",
    "RequestRefused",
    "ResourceExhausted",
    "Retry",
    "ServerFailed",
    "SettingsError",
    "Tensor",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
]
