"""RepositoryIndex: what each version on disk is doing, and why what serves is not what lies there."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from pixelserve.oip import inference_pb2 as pb

from ..errors import Unimplemented
from ..repository.catalogue import Catalogue, State, VersionState
from .call import Call
from .codec import parse_message
from .dispatch import Guard

_CHANGED = "serves what was loaded before; the files on disk have changed since"


class RepositoryIndex:
    """Handles the method. May be called from any thread.

    The repository is looked at for each call, on a thread of its own: a disk that hangs must cost these calls only.
    """

    def __init__(self, catalogue: Catalogue, changed: Callable[[], Collection[tuple[str, int]]], guard: Guard) -> None:
        """Args:
        catalogue: the loaded models.
        changed: tells which ready versions, by model and number, are of other files than are on disk.
        guard: answers a call for which something unexpected is raised.
        """
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
        """Answers no more calls, and waits for none."""
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
