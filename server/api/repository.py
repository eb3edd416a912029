"""RepositoryModelLoad and RepositoryModelUnload: a client decides what is loaded (`--model-control-mode explicit`)."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pixelserve.oip import inference_pb2 as pb

from ..errors import InvalidRequest, RequestError, ServerError, Unavailable, Unimplemented
from ..failures import FailureLog
from ..repository.manager import RepositoryManager
from ..repository.overlay import Override, read_override
from .call import Call, Handler
from .codec import parse_message
from .dispatch import Guard
from .open_inference import SERVICE

_EXPLICIT = "explicit"
# Triton's load parameters: the configuration as JSON, and files by path.
_CONFIG = "config"
_FILE = "file:"


class RepositoryControl:
    """Handles both methods. Handlers may be called from any thread; a change takes its time on a thread of its own."""

    def __init__(self, manager: RepositoryManager, mode: str, log_failure: FailureLog) -> None:
        """Stores what it is handed.

        Args:
            manager: loads and unloads.
            mode: none, poll or explicit; both methods are for the last alone.
            log_failure: logs an unexpected exception, and returns the id under which it did.
        """
        self._manager = manager
        self._mode = mode
        self._guard = Guard(log_failure)
        # One: the manager makes one change at a time, and the order of a client's calls is that of their effects.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="repository")

    def handlers(self) -> dict[str, Handler]:
        """Returns a handler for each served method's full name."""
        return {
            f"/{SERVICE}/RepositoryModelLoad": self.load,
            f"/{SERVICE}/RepositoryModelUnload": self.unload,
        }

    def close(self) -> None:
        """Drops the changes that have not begun, and waits for the one that has."""
        self._thread.shutdown(cancel_futures=True)

    def load(self, message: bytes, call: Call) -> None:
        """Loads a model's served versions, or brings them up to date; answered when they take requests.

        Raises:
            Unavailable: the mode is another.
            Unimplemented: a repository is named.
            InvalidRequest: no model is named, a parameter is unknown, or what it holds is wrong.
        """
        request = parse_message(pb.RepositoryModelLoadRequest, message)
        self._check(request)
        override = _override(request.parameters)
        self._in_turn(call, lambda: self._load(request.model_name, override, call))

    def unload(self, message: bytes, call: Call) -> None:
        """Unloads a model; answered when its versions have finished what they had accepted.

        Raises:
            Unavailable: the mode is another.
            Unimplemented: a repository is named.
            InvalidRequest: no model is named.
        """
        request = parse_message(pb.RepositoryModelUnloadRequest, message)
        # Triton's one parameter, unload_dependents, is about ensembles, of which there are none.
        self._check(request)
        self._in_turn(call, lambda: self._unload(request.model_name, call))

    def _check(self, request: Any) -> None:
        if self._mode != _EXPLICIT:
            raise Unavailable(
                f"models are loaded and unloaded by clients only with --model-control-mode {_EXPLICIT}; this server "
                f"runs with {self._mode}"
            )
        if request.repository_name:
            raise Unimplemented(
                f'repository "{request.repository_name}": this server has one repository; leave repository_name empty'
            )
        if not request.model_name:
            raise InvalidRequest("model_name is empty; expected the name of a model's folder in the repository")

    def _in_turn(self, call: Call, change: Callable[[], None]) -> None:
        self._thread.submit(lambda: self._guard(call, change))

    def _load(self, name: str, override: Override | None, call: Call) -> None:
        try:
            errors: Sequence[ServerError] = self._manager.load(name, override)
        except RequestError:
            raise
        except ServerError as error:
            # A GPU that is required and not there: the server's settings, but told to who asked.
            errors = [error]
        if errors:
            raise InvalidRequest("; ".join(map(str, errors)))
        call.reply(pb.RepositoryModelLoadResponse().SerializeToString())

    def _unload(self, name: str, call: Call) -> None:
        self._manager.unload(name)
        call.reply(pb.RepositoryModelUnloadResponse().SerializeToString())


def _override(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> Override | None:
    """Returns what a load's parameters put in the place of the model's files."""
    config, files = None, {}
    for name, parameter in parameters.items():
        if name == _CONFIG:
            config = _value(name, parameter, "string_param")
        elif name.startswith(_FILE):
            files[name.removeprefix(_FILE)] = _value(name, parameter, "bytes_param")
        else:
            raise InvalidRequest(f'load parameter "{name}" is unknown; expected "{_CONFIG}" or "{_FILE}PATH"')
    return read_override(config, files)


def _value(name: str, parameter: pb.ModelRepositoryParameter, kind: str) -> Any:
    came = parameter.WhichOneof("parameter_choice")
    if came != kind:
        raise InvalidRequest(f'load parameter "{name}" came as {came or "nothing"}; expected {kind}')
    return getattr(parameter, kind)
