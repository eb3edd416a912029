"""The JSON documents of an image: manifests and indexes, as the OCI image specification has them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pixelserve.pull.errors import DamagedError

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
"""Types of documents that list manifests; the second is Docker's."""
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
"""Types of documents that list layers; the second is Docker's."""
MAX_BYTES = 4 << 20
"""Maximum bytes of a document: the distribution specification's limit for registries."""

Read = Callable[[int], bytes]
"""Reads up to a number of bytes; none at the end."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Platform(_Part):
    """The platform of a manifest."""

    architecture: str = Field(default="", description="as Go names it, such as amd64")
    os: str = Field(default="", description="such as linux")


class Descriptor(_Part):
    """Names a blob by its content."""

    media_type: str = Field(alias="mediaType", default="")
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int = Field(ge=0, description="bytes")
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Document(_Part):
    """A manifest, which lists layers, or an index, which lists manifests."""

    media_type: str = Field(alias="mediaType", default="")
    manifests: list[Descriptor] | None = Field(default=None, description="an index's; None: not an index")
    layers: list[Descriptor] | None = Field(default=None, description="a manifest's; None: not a manifest")
    annotations: dict[str, str] | None = None


@dataclass(frozen=True)
class Blob:
    """Bytes named by their digest, held in memory."""

    media_type: str
    """Their media type."""
    data: bytes
    """The bytes."""

    @property
    def digest(self) -> str:
        """The name."""
        return digest_of(self.data)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        """Returns the descriptor that names this blob in another document."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


def digest_of(data: bytes) -> str:
    """Returns the digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encoded(document: Mapping[str, Any]) -> bytes:
    """Returns a document as JSON, the same bytes for equal documents."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def parse_document(data: bytes, shown: str) -> Document:
    """Returns a document.

    Args:
        data: its JSON.
        shown: the image, for the message.

    Raises:
        DamagedError: it is neither a manifest nor an index.
    """
    try:
        document = Document.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole document"
        raise DamagedError(
            f"{shown}: not an image: {field}: {first['msg']}; expected an OCI manifest or index"
        ) from error
    if (document.manifests is None) == (document.layers is None):
        raise DamagedError(f"{shown}: not an image: expected an OCI manifest with layers, or an index with manifests")
    return document
