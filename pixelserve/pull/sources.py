"""Sources to pull models from: a local folder, or a URL that fsspec supports.

Treat everything a source returns as untrusted. `listing` checks names, `fetch` sizes and bytes.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from .errors import (
    MissingPackageError,
    PullError,
    SourceFailed,
    SourceRefused,
    SourceUnavailable,
    UnsafeSourceError,
    UsageError,
)

# The extra with the packages that a kind of URL needs beside fsspec.
_EXTRAS = {"s3": "pull-s3", "s3a": "pull-s3", "gs": "pull-gcs", "gcs": "pull-gcs", "http": "pull", "https": "pull"}
_HTTP = ("http", "https")
_LOCAL = ("", "file", "local")
# A web server that sends nothing for this long is gone; the duration of a whole file is not limited.
_SILENCE_S = 60
# Bytes per request to an object store.
_BLOCK_BYTES = 8 << 20
# HTTP's statuses.
_DENIED = (401, 403)
_NO_CREDENTIALS = (
    "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod an identity; "
    "for a public bucket set FSSPEC_S3_ANON=true"
)
_MISSING = (404, 410)


@dataclass(frozen=True)
class Entry:
    """An entry of a folder at the source."""

    name: str
    """Its name in that folder, unchecked."""
    key: str
    """Its key at the source."""
    is_folder: bool
    """Whether it is a folder."""


class Source(Protocol):
    """A folder at a source. Every method raises a `PullError` that says what is wrong."""

    shown: str
    """Its URL for messages, without passwords."""
    name: str
    """The folder's name, or empty."""
    root: str
    """The key of the folder."""

    def entries(self, folder: str) -> list[Entry]:
        """Lists a folder by key, in no particular order."""

    def size(self, key: str) -> int | None:
        """Returns a file's size in bytes, or None if the source does not say."""

    def opened(self, key: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Opens a file; read its bytes with `read`."""

    def read(self, stream: BinaryIO, count: int) -> bytes:
        """Reads up to `count` bytes of an opened file; none at its end."""

    def moved(self, key: str, target: Path) -> bool:
        """Moves a file to `target` if the source is temporary; returns whether it did."""


def open_source(url: str) -> Source:
    """Returns the source of a URL; paths and file URLs need no further package.

    Raises:
        UsageError: the scheme is unknown, or the URL cannot name a folder.
        MissingPackageError: the package for this scheme is not installed.
    """
    scheme = url.split("://", 1)[0] if "://" in url else ""
    if scheme in _LOCAL:
        return FolderSource(Path(unquote(urlsplit(url).path)) if scheme else Path(url))
    return FsspecSource(url, scheme)


def redacted(text: str) -> str:
    """Returns a text without the passwords and queries of its URLs; queries may hold signatures."""
    text = re.sub(r"(://)[^/\s]*@", r"\1", text)
    return re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)


class FolderSource:
    """A local folder. Links are followed within it, because Kubernetes mounts files so, but never out of it."""

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._folder = path.resolve()
        self.name = self._folder.name
        self.root = str(self._folder)

    def entries(self, folder: str) -> list[Entry]:
        """Lists a folder; refuses entries that are neither files nor folders."""
        with self._reading(folder):
            return [self._entry(path) for path in Path(folder).iterdir()]

    def _entry(self, path: Path) -> Entry:
        hidden = path.name.startswith(".")
        if not hidden and not path.resolve().is_relative_to(self._folder):
            raise UnsafeSourceError(f"{path} is a link that leads out of {self.shown}; replace it by what it points to")
        mode = path.stat().st_mode if not hidden else 0
        if not hidden and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UnsafeSourceError(f"{path} is neither a file nor a folder; remove it")
        return Entry(path.name, str(path), stat.S_ISDIR(mode))

    def size(self, key: str) -> int | None:
        """Returns a file's size."""
        with self._reading(key):
            return Path(key).stat().st_size

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[BinaryIO]:
        """Opens a file."""
        with self._reading(key):
            # Errors of the block are not errors of reading.
            stream = Path(key).open("rb")  # noqa: SIM115  closed by the block below
        with stream:
            yield stream

    def read(self, stream: BinaryIO, count: int) -> bytes:
        """Reads from a file."""
        with self._reading(stream.name):
            return stream.read(count)

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise SourceRefused(f"{path} cannot be read: {reason}; expected the folder of a model") from error

    def moved(self, key: str, target: Path) -> bool:
        """Returns False: the folder must not change."""
        return False


class UnpackedSource(FolderSource):
    """A folder into which a pull unpacked an image."""

    def __init__(self, path: Path, shown: str) -> None:
        """`shown` is the image's name in messages."""
        super().__init__(path)
        self.shown = shown

    def moved(self, key: str, target: Path) -> bool:
        """Moves a file: a copy would need twice the disk space."""
        Path(key).rename(target)
        return True


class FsspecSource:
    """A folder on a file system of fsspec: s3://, gs://, http(s)://, memory:// and so on."""

    def __init__(self, url: str, scheme: str) -> None:
        """Finds the file system without accessing it. Raises as `open_source`."""
        self.shown = redacted(url)
        self._scheme = scheme
        self._is_http = scheme in _HTTP
        if self._is_http and (urlsplit(url).query or urlsplit(url).fragment):
            raise UsageError(f"{self.shown}: a folder's URL has neither a query nor a fragment; leave it out")
        self._system, path = _file_system(url, scheme, self.shown)
        # Without the slash, a web server answers with a redirect.
        self.root = path.rstrip("/") + ("/" if self._is_http else "")
        last = PurePosixPath(urlsplit(url).path if self._is_http else path).name
        self.name = unquote(last) if self._is_http else last

    def entries(self, folder: str) -> list[Entry]:
        """Lists a folder; refuses entries that are neither files nor folders."""
        prefix = folder.rstrip("/") + "/"
        with self._reading(folder):
            listed = self._system.ls(folder, detail=True)
        return [self._entry(info, prefix) for info in listed if not self._is_noise(str(info["name"]), prefix)]

    def _is_noise(self, key: str, prefix: str) -> bool:
        """Returns whether an entry is the folder itself, as in object stores, or an index page's link."""
        if key.rstrip("/") == prefix.rstrip("/"):
            return True
        link = key.removeprefix(prefix)
        return self._is_http and ("?" in link or "#" in link or link in (".", "./") or link.startswith("../"))

    def _entry(self, info: dict[str, Any], prefix: str) -> Entry:
        key, kind = str(info["name"]), info.get("type")
        if kind not in ("file", "directory") or info.get("islink"):
            raise UnsafeSourceError(f"{redacted(key)} is neither a file nor a folder; remove it from the source")
        # A key outside its folder stays whole, and is refused for its slashes.
        name = key.removeprefix(prefix).rstrip("/")
        if self._is_http:
            name = unquote(name).removeprefix("./")
        return Entry(name, key, kind == "directory")

    def size(self, key: str) -> int | None:
        """Returns a file's size, or None if a web server does not announce it."""
        with self._reading(key):
            size = self._system.info(key).get("size")
        return None if size is None else int(size)

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[BinaryIO]:
        """Opens a file; from a web server, as one response."""
        # With a block size of 0 fsspec streams; the made-up size avoids another request for the real one.
        how = {"block_size": 0, "size": 1} if self._is_http else {"block_size": _BLOCK_BYTES}
        with self._reading(key):
            stream = self._system.open(key, "rb", **how)
        with stream:
            yield stream

    def read(self, stream: BinaryIO, count: int) -> bytes:
        """Reads from a file."""
        with self._reading(getattr(stream, "path", self.shown)):
            return stream.read(count)

    def moved(self, key: str, target: Path) -> bool:
        """Returns False: the file is not on this machine."""
        return False

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Translates errors, which differ by file system."""
        try:
            yield
        except Exception as error:
            # An object store's keys are paths.
            shown = key if "://" in key else f"{self._scheme}://{key.lstrip('/')}"
            raise _translated(redacted(shown), error) from error


def _file_system(url: str, scheme: str, shown: str) -> tuple[Any, str]:
    """Returns fsspec's file system for a URL, and the path on it."""
    try:
        from fsspec.core import url_to_fs

        options = _http_options() if scheme in _HTTP else {}
        # A cached one may return old listings.
        return url_to_fs(url, skip_instance_cache=True, **options)  # type: ignore[no-any-return]  # fsspec has no types
    except ImportError as error:
        raise MissingPackageError(f"{shown}: {_remedy(scheme, error)}") from error
    except ValueError as error:
        raise UsageError(
            f"{shown}: {redacted(str(error))}; expected a folder, or a URL such as s3://bucket/models/mnist-cnn"
        ) from error
    except Exception as error:
        raise _translated(shown, error) from error


def _remedy(scheme: str, error: ImportError) -> str:
    if scheme in _EXTRAS or (error.name or "").partition(".")[0] == "fsspec":
        extra = _EXTRAS.get(scheme, "pull")
        return f"the package for {scheme}:// is missing; in PixelServe's clone run: pip install -e '.[{extra}]'"
    # For schemes without an extra of ours, fsspec names the package.
    return str(error)


def _http_options() -> dict[str, Any]:
    import aiohttp

    # aiohttp's default limits a whole file to five minutes.
    silence = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
    return {"timeout": silence, "simple_links": False}


def _translated(shown: str, error: Exception) -> PullError:
    # fsspec reports every failure of a web server as a missing file.
    cause = (
        error.__cause__ if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception) else error
    )
    text, status = redacted(str(cause)) or type(cause).__name__, _status(cause)
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    if isinstance(cause, FileNotFoundError | NotADirectoryError) or status in _MISSING:
        return SourceRefused(f"{shown}: there is no such file or folder; look at the URL")
    if "NoCredentialsError" in kinds:
        return SourceRefused(f"{shown} may not be read: {_NO_CREDENTIALS}")
    if isinstance(cause, PermissionError) or status in _DENIED:
        return SourceRefused(f"{shown} may not be read: {text}; look at the credentials")
    # botocore has its own ConnectionError.
    if isinstance(cause, OSError) or "ConnectionError" in kinds:
        return SourceUnavailable(f"{shown} does not answer: {text}; look at the address, or try again")
    return SourceFailed(f"{shown} failed: {text}; try again")


def _status(error: Exception) -> object:
    """Returns an error's HTTP status, which botocore, aiohttp and gcsfs store differently, if it has one."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(error, "status", None) or getattr(error, "code", None)
