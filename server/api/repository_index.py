"""RepositoryIndex: the state of each version on disk, and why it differs from what is served."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from pixelserve.oip import inference_pb2 as pb

from ..errors import Unimplemented
from ..repository.catalogue import Catalogue, State, VersionState
from .call import Call
from .codec import parse_message
from .dispatch import CallGuard

_CHANGED = "serves what was loaded before; the files on disk have changed since"


class RepositoryIndex:
    """Handles the method. Thread-safe.

    Each call reads the repository, on a separate thread: a hung disk must affect only these calls.

    Args:
        catalogue: the loaded models.
        changed: returns the ready versions, by model and number, whose files changed on disk.
        guard: answers calls with unexpected errors.
    """

    def __init__(
        self, catalogue: Catalogue, changed: Callable[[], Collection[tuple[str, int]]], guard: CallGuard
    ) -> None:
        self._catalogue = catalogue
        self._changed = changed
        self._guard = guard
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")

    def __call__(self, message: bytes, call: Call) -> None:
        """Answers with the versions that the caller may see.

        Raises:
            Unimplemented: a repository is named.
        """
        request = parse_message(pb.RepositoryIndexRequest, message)
        if request.repository_name:
            raise Unimplemented(
                f'repository_name is "{request.repository_name}"; this server has one repository, leave the name out'
            )
        self._thread.submit(lambda: self._guard(call, lambda: self._answer(request, call)))

    def close(self) -> None:
        """Stops answering, without waiting for calls."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: pb.RepositoryIndexRequest, call: Call) -> None:
        changed = self._changed()
        models = [
            pb.RepositoryIndexResponse.ModelIndex(
                name=each.model, version=each.version, state=each.state, reason=_reason(each, changed)
            )
            for each in self._catalogue.index()
            if (each.state is State.READY or not request.ready) and call.may_see(each.model)
        ]
        call.reply(pb.RepositoryIndexResponse(models=models).SerializeToString())


def _reason(each: VersionState, changed: Collection[tuple[str, int]]) -> str:
    is_old = each.state is State.READY and (each.model, int(each.version)) in changed
    return each.reason or (_CHANGED if is_old else "")
