"""Names of images: oci:DIR[:TAG] is a layout on disk, oci://REGISTRY/NAME[:TAG] an image in a registry."""

import re
from dataclasses import dataclass
from pathlib import Path

from pixelserve.pull.errors import UsageError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# The grammar of the OCI distribution specification, version 1.1.
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")
_EXPECTED = "expected oci:DIR[:TAG|@sha256:…] or oci://REGISTRY/NAME[:TAG|@sha256:…]"


@dataclass(frozen=True)
class LayoutReference:
    """An image in an OCI layout."""

    folder: Path
    """The layout's folder."""
    tag: str | None
    """The image's name in the layout; None: not given."""
    digest: str | None
    """The image's digest; None: not given."""

    @property
    def shown(self) -> str:
        """The reference as text."""
        return f"oci:{self.folder}{_suffix(self.tag, self.digest)}"


@dataclass(frozen=True)
class RegistryReference:
    """An image in a registry."""

    registry: str
    """The registry's host, with its port if one was given."""
    name: str
    """The repository's name there."""
    tag: str | None
    """The image's tag; None: not given."""
    digest: str | None
    """The image's digest; None: not given."""

    @property
    def shown(self) -> str:
        """The reference as text."""
        return f"oci://{self.registry}/{self.name}{_suffix(self.tag, self.digest)}"


Reference = LayoutReference | RegistryReference


def is_image(url: str) -> bool:
    """Returns whether a URL names an image."""
    return url.startswith(("oci:", "docker://"))


def parse_reference(url: str) -> Reference:
    """Returns the image that a URL names; docker:// is accepted for oci://, as skopeo writes it.

    Raises:
        UsageError: the URL is not a reference to an image.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("oci", "docker"):
        return _registry(url, rest)
    if not url.startswith("oci:"):
        raise UsageError(f"{url} does not name an image; {_EXPECTED}")
    # A colon cannot be part of the folder's name; skopeo and podman split here too.
    rest, digest = _digest(url, url.removeprefix("oci:"))
    folder, _, tag = rest.partition(":")
    if not folder:
        raise UsageError(f"{url}: no folder; {_EXPECTED}")
    return LayoutReference(Path(folder), _tag(url, tag, has_tag=":" in rest), digest)


def _registry(url: str, rest: str) -> RegistryReference:
    rest, digest = _digest(url, rest)
    host, _, path = rest.partition("/")
    name, colon, tag = path.partition(":")
    if not _HOST.fullmatch(host) or not _NAME.fullmatch(name) or len(name) > 255:
        raise UsageError(f"{url} does not name an image in a registry; {_EXPECTED}, the name in lower case")
    return RegistryReference(host, name, _tag(url, tag, has_tag=bool(colon)), digest)


def _digest(url: str, rest: str) -> tuple[str, str | None]:
    rest, at, digest = rest.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise UsageError(f"{url}: the digest must be sha256: and 64 hexadecimal digits in lower case")
    return rest, digest or None


def _tag(url: str, tag: str, *, has_tag: bool) -> str | None:
    if has_tag and not _TAG.fullmatch(tag):
        raise UsageError(f'{url}: invalid tag "{tag}"; expected letters, digits, "_", "." and "-", 128 at most')
    return tag or None


def _suffix(tag: str | None, digest: str | None) -> str:
    return (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
