"""Regions of POSIX shared memory that clients on the same machine have registered, to be read and written.

Memory is read and written through its file, never mapped: a client may shrink its object at any moment, and touching a
mapped page that is gone would kill the process, while a file read only returns less.
"""

import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

from ..errors import AlreadyExists, InvalidRequest, NotFound

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux has POSIX shared memory
# Each holds a file descriptor, of which a process has about a thousand.
_MAX_REGIONS = 256
_MAX_KEY_BYTES = 255


class Region:
    """A part of a shared memory object. Thread-safe."""

    def __init__(self, name: str, key: str, offset: int, byte_size: int, descriptor: int) -> None:
        """Takes ownership of an open file.

        Args:
            name: its name in requests.
            key: the object's name, as registered.
            offset: its start in the object, in bytes.
            byte_size: its size.
            descriptor: the object's file descriptor, closed after the last request that uses the region.
        """
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)

    def check(self, offset: int, byte_size: int) -> None:
        """Checks that bytes are inside the region.

        Raises:
            InvalidRequest: they are not.
        """
        if offset < 0 or byte_size < 0 or offset + byte_size > self.byte_size:
            raise InvalidRequest(
                f"{byte_size} bytes at {offset} are not inside shared memory region {self.name}, which has "
                f"{self.byte_size}"
            )

    def read(self, offset: int, byte_size: int) -> bytes:
        """Returns a copy of some bytes.

        Raises:
            InvalidRequest: they are not inside the region, or its object has shrunk.
        """
        self.check(offset, byte_size)
        data = bytearray()
        # One call reads at most 2 GiB.
        while len(data) < byte_size:
            part = os.pread(self._descriptor, byte_size - len(data), self.offset + offset + len(data))
            if not part:
                raise InvalidRequest(self._shrunk())
            if len(part) == byte_size:
                return part
            data += part
        return bytes(data)

    def write(self, offset: int, data: bytes) -> None:
        """Writes bytes.

        Raises:
            InvalidRequest: they are not inside the region, or its object has shrunk.
        """
        self.check(offset, len(data))
        if os.fstat(self._descriptor).st_size < self.offset + offset + len(data):
            # Writing would grow it again, in memory that its owner released.
            raise InvalidRequest(self._shrunk())
        view = memoryview(data)
        at = self.offset + offset
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view, at = view[written:], at + written

    def _shrunk(self) -> str:
        return (
            f"the shared memory object of region {self.name} is smaller than when it was registered; register it again"
        )


class Regions:
    """The registered regions by name. Thread-safe.

    Args:
        folder: the folder of the objects.
        max_read_bytes: maximum bytes read by one request.
    """

    def __init__(self, folder: Path = SHARED_MEMORY, *, max_read_bytes: int = 512 << 20) -> None:
        self.max_read_bytes = max_read_bytes
        self._folder = folder
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Registers a part of a shared memory object under a name.

        Args:
            name: its name in requests.
            key: the object's name; one leading slash is ignored.
            offset: the region's start in the object, in bytes.
            byte_size: the region's size.

        Raises:
            InvalidRequest: a value is out of range, or the object cannot be used.
            NotFound: there is no such object.
            AlreadyExists: the name is taken.
        """
        if not name:
            raise InvalidRequest("a shared memory region needs a name; it is empty")
        if byte_size < 1:
            raise InvalidRequest(f"shared memory region {name}: byte_size is {byte_size}; expected 1 or more")
        with self._lock:
            if name in self._regions:
                raise AlreadyExists(f"shared memory region {name} is registered already; unregister it first")
            if len(self._regions) >= _MAX_REGIONS:
                raise InvalidRequest(f"{_MAX_REGIONS} shared memory regions are registered; unregister one first")
            descriptor = _open(self._folder, key)
            region = Region(name, key, offset, byte_size, descriptor)
            size = os.fstat(descriptor).st_size
            if offset + byte_size > size:
                raise InvalidRequest(
                    f"shared memory region {name} would have {byte_size} bytes at {offset}; object {key} has {size}"
                )
            self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Unregisters a region, or all if the name is empty. Running requests may finish with it.

        An unknown name is not an error.
        """
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def get(self, name: str) -> Region:
        """Returns a region.

        Raises:
            NotFound: it is not registered.
        """
        region = self._regions.get(name)
        if region is None:
            raise NotFound(
                f'there is no shared memory region "{name}"; register it first, which --system-shared-memory allows'
            )
        return region

    def listing(self) -> Sequence[Region]:
        """Returns all regions by name."""
        with self._lock:
            return [self._regions[name] for name in sorted(self._regions)]


def _open(folder: Path, key: str) -> int:
    """Opens a shared memory object and returns its descriptor."""
    name = key.removeprefix("/")
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(name.encode()) > _MAX_KEY_BYTES:
        raise InvalidRequest(f'shared memory key "{key[:_MAX_KEY_BYTES]}": expected a name without slashes but a first')
    try:
        # Follow no link out of the folder, and do not block on a pipe.
        descriptor = os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"shared memory object {key} does not exist on the server's machine; create it first") from error
    except OSError as error:
        raise InvalidRequest(f"shared memory object {key} cannot be opened for reading and writing: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidRequest(f"shared memory key {key} is not a shared memory object")
    return descriptor
