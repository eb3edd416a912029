"""RepositoryModelLoad and RepositoryModelUnload: clients control what is loaded (`--model-control-mode explicit`)."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from pixelserve.oip import inference_pb2 as pb

from ..errors import InvalidRequest, RepositoryError, RequestError, ServerError, Unavailable, Unimplemented
from ..failures import FailureLog
from ..repository.manager import RepositoryManager
from ..repository.overlay import Override, read_override
from .admission import STOPPING
from .call import Call, Handler
from .codec import parse_message
from .dispatch import CallGuard
from .open_inference import SERVICE

T = TypeVar("T")

_EXPLICIT = "explicit"
# Triton's load parameters: the configuration as JSON, and files by path.
_CONFIG = "config"
_FILE = "file:"


class RepositoryControl:
    """Handles both methods. Handlers are thread-safe; changes run on the manager's threads.

    Args:
        manager: loads and unloads.
        mode: none, poll or explicit; both methods require explicit.
        log_failure: logs an unexpected exception and returns its id in the log.
    """

    def __init__(self, manager: RepositoryManager, mode: str, log_failure: FailureLog) -> None:
        self._manager = manager
        self._mode = mode
        self._guard = CallGuard(log_failure)

    def handlers(self) -> dict[str, Handler]:
        """Returns a handler for each served method's full name."""
        return {
            f"/{SERVICE}/RepositoryModelLoad": self.load,
            f"/{SERVICE}/RepositoryModelUnload": self.unload,
        }

    def load(self, message: bytes, call: Call) -> None:
        """Loads or updates a model's served versions; answered when they are ready.

        Raises:
            Unavailable: the mode is not explicit.
            Unimplemented: a repository is named.
            InvalidRequest: no model is named, or a parameter is unknown or invalid.
        """
        request = parse_message(pb.RepositoryModelLoadRequest, message)
        self._check(request)
        override = _override(request.parameters)
        self._answer(call, self._manager.load(request.model_name, override), _loaded)

    def unload(self, message: bytes, call: Call) -> None:
        """Unloads a model; answered when its versions' accepted requests are finished.

        Raises:
            Unavailable: the mode is not explicit.
            Unimplemented: a repository is named.
            InvalidRequest: no model is named.
        """
        request = parse_message(pb.RepositoryModelUnloadRequest, message)
        # Triton's only parameter, unload_dependents, is for ensembles, which do not exist here.
        self._check(request)
        self._answer(call, self._manager.unload(request.model_name), _unloaded)

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

    def _answer(self, call: Call, change: "Future[T]", encode: Callable[[T], bytes]) -> None:
        """Answers a call when its change is complete."""

        def answer() -> None:
            if change.cancelled():
                raise Unavailable(STOPPING)
            try:
                reply = encode(change.result())
            except RequestError:
                raise
            except ServerError as error:
                # Such as a required GPU that is missing: a matter of settings, but reported to the caller.
                raise InvalidRequest(str(error)) from error
            call.reply(reply)

        change.add_done_callback(lambda _: self._guard(call, answer))


def _loaded(errors: list[RepositoryError]) -> bytes:
    if errors:
        raise InvalidRequest("; ".join(map(str, errors)))
    return pb.RepositoryModelLoadResponse().SerializeToString()


def _unloaded(_: None) -> bytes:
    return pb.RepositoryModelUnloadResponse().SerializeToString()


def _override(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> Override | None:
    """Returns the files that a load's parameters replace."""
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
