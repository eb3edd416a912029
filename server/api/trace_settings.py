"""TraceSetting: the server's tracing settings, by Triton's names."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pixelserve.oip import inference_pb2 as pb

from ..errors import InvalidRequest, Unimplemented
from ..repository.catalogue import Catalogue

if TYPE_CHECKING:
    from ..observe.traces import Tracing

_LEVEL, _RATE, _MODE = "trace_level", "trace_rate", "trace_mode"
_OFF, _TIMESTAMPS = "OFF", "TIMESTAMPS"
# Triton's other settings with their defaults (its trace extension), which match our behaviour: spans are sent at once,
# without a limit, and to no file.
_FIXED: dict[str, tuple[str, ...]] = {"trace_count": ("-1",), "log_frequency": ("0",), "trace_file": ("",)}
# Triton's default, meaningless without tracing.
_UNUSED_RATE = 1000


class TraceSettings:
    """Answers TraceSetting. Thread-safe.

    Args:
        catalogue: the loaded models.
        tracing: traces calls, or None.
        on_change: called with the level and the rate after a change.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tracing: "Tracing | None" = None,
        on_change: Callable[[str, int], object] = lambda *_: None,
    ) -> None:
        self._catalogue = catalogue
        self._tracing = tracing
        self._on_change = on_change
        self._lock = threading.Lock()
        self._defaults = self._read()

    def __call__(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Changes what is asked for, all of it or nothing, and returns the settings that hold then.

        Raises:
            NotFound: no such model, or no version of it is ready.
            InvalidRequest: a setting is unknown, or its value.
            Unimplemented: a setting's value is not supported here.
        """
        if request.model_name:
            self._catalogue.get(request.model_name)
        with self._lock:
            before = self._read()
            after = before | self._asked({name: setting.value for name, setting in sorted(request.settings.items())})
            if after != before:
                self._change(after, request.model_name)
        response = pb.TraceSettingResponse()
        for name, values in after.items():
            response.settings[name].value[:] = values
        return response

    def _read(self) -> dict[str, tuple[str, ...]]:
        tracing = self._tracing
        if tracing is None:
            return {_LEVEL: (_OFF,), _RATE: (str(_UNUSED_RATE),), **_FIXED, _MODE: ("triton",)}
        level = _TIMESTAMPS if tracing.is_on else _OFF
        return {_LEVEL: (level,), _RATE: (str(tracing.rate),), **_FIXED, _MODE: ("opentelemetry",)}

    def _asked(self, settings: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        """Returns the requested settings; one without a value returns to its default."""
        for name in settings:
            if name not in self._defaults:
                raise InvalidRequest(f'trace setting "{name}" is unknown; expected {", ".join(self._defaults)}')
        return {name: tuple(value) or self._defaults[name] for name, value in settings.items()}

    def _change(self, after: Mapping[str, tuple[str, ...]], model: str) -> None:
        if self._tracing is None:
            raise Unimplemented(
                "this server traces nothing; start it with --trace-endpoint, the URL of an OpenTelemetry collector"
            )
        if model:
            raise Unimplemented(f"trace settings are for the whole server, not for model {model}; leave the model out")
        for name in (*_FIXED, _MODE):
            if after[name] != self._defaults[name]:
                raise Unimplemented(f"trace setting {name} is {list(self._defaults[name])} and cannot be changed")
        is_on, rate = _is_on(after[_LEVEL]), _rate(after[_RATE])
        self._tracing.is_on, self._tracing.rate = is_on, rate
        self._on_change(after[_LEVEL][0], rate)


def _is_on(level: Sequence[str]) -> bool:
    if level not in ((_OFF,), (_TIMESTAMPS,)):
        raise Unimplemented(f"trace setting {_LEVEL} came as {list(level)}; expected [{_OFF}] or [{_TIMESTAMPS}]")
    return level == (_TIMESTAMPS,)


def _rate(rate: Sequence[str]) -> int:
    digits = rate[0] if len(rate) == 1 else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise InvalidRequest(
            f"trace setting {_RATE} came as {list(rate)}; expected one whole number: of how many calls one is traced"
        )
    return int(digits)
