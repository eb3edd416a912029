"""LogSettings: reads and changes the log level at run time."""

import threading
from collections.abc import Callable, Mapping

from pixelserve.oip import inference_pb2 as pb

from ..errors import InvalidRequest
from ..observe.logs import LEVELS, LevelName, LogLevel

# Triton's switches as levels, each with the level it enables; least severe first.
_SWITCHES: dict[str, LevelName] = {
    "log_verbose_level": "debug",
    "log_info": "info",
    "log_warning": "warning",
    "log_error": "error",
}
_VERBOSE = "log_verbose_level"
# The log's target and format are fixed at start.
_FIXED = ("log_file", "log_format")


class LogSettings:
    """Answers LogSettings. Thread-safe.

    Args:
        level: the log level.
        log_format: the log's format, which cannot be changed.
        on_change: called with the old and the new level, while the more verbose one is in force.
    """

    def __init__(
        self, level: LogLevel, log_format: str, on_change: Callable[[LevelName, LevelName], object] = lambda *_: None
    ) -> None:
        self._level = level
        self._log_format = log_format
        self._on_change = on_change
        self._lock = threading.Lock()

    def __call__(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Applies all requested changes or none, and returns the resulting settings.

        Raises:
            InvalidRequest: a setting is unknown, of another type, not changeable, or contradicts another.
        """
        with self._lock:
            before = self._level.name
            after = self._asked(request, before)
            if after != before:
                self._change(before, after)
            return self._describe()

    def _change(self, before: LevelName, after: LevelName) -> None:
        # Logged at the more verbose level, so a change to a silent log is visible.
        is_quieter = LEVELS.index(after) > LEVELS.index(before)
        if is_quieter:
            self._on_change(before, after)
        self._level.name = after
        if not is_quieter:
            self._on_change(before, after)

    def _asked(self, request: pb.LogSettingsRequest, before: LevelName) -> LevelName:
        # A setting without a value changes nothing.
        given = {
            name: value
            for name, value in sorted(request.settings.items())
            if value.WhichOneof("parameter_choice") is not None or name not in (*_SWITCHES, *_FIXED)
        }
        for name, value in given.items():
            if name not in _SWITCHES:
                self._check_fixed(name, value)
        return _level({name: _is_on(name, value) for name, value in given.items() if name in _SWITCHES}, before)

    def _check_fixed(self, name: str, value: pb.LogSettingsRequest.SettingValue) -> None:
        if name not in _FIXED:
            raise InvalidRequest(f'log setting "{name}" is unknown; expected {", ".join((*_SWITCHES, *_FIXED))}')
        holds = "" if name == "log_file" else self._log_format
        if value.WhichOneof("parameter_choice") != "string_param" or value.string_param != holds:
            raise InvalidRequest(f'log setting {name} is "{holds}" and cannot be changed while the server runs')

    def _describe(self) -> pb.LogSettingsResponse:
        response = pb.LogSettingsResponse()
        shown = LEVELS[LEVELS.index(self._level.name) :]
        for name, level in _SWITCHES.items():
            if name == _VERBOSE:
                response.settings[name].uint32_param = int(level in shown)
            else:
                response.settings[name].bool_param = level in shown
        response.settings["log_file"].string_param = ""
        response.settings["log_format"].string_param = self._log_format
        return response


def _is_on(name: str, value: pb.LogSettingsRequest.SettingValue) -> bool:
    expected = "uint32_param" if name == _VERBOSE else "bool_param"
    sent = value.WhichOneof("parameter_choice")
    if sent != expected:
        raise InvalidRequest(f"log setting {name} came as {sent}; expected {expected}")
    return bool(getattr(value, expected))


def _level(switches: Mapping[str, bool], before: LevelName) -> LevelName:
    """Returns the level of Triton's switches: one that is on includes all more severe levels, one that is off excludes
    all less severe ones."""
    on = [LEVELS.index(_SWITCHES[name]) for name, is_on in switches.items() if is_on]
    off = [LEVELS.index(_SWITCHES[name]) for name, is_on in switches.items() if not is_on]
    lowest = max(off, default=-1) + 1
    if lowest == len(LEVELS):
        raise InvalidRequest("log setting log_error is false; errors are always logged, leave it out")
    if on and min(on) < lowest:
        names = list(_SWITCHES)
        raise InvalidRequest(
            f"log setting {names[min(on)]} is on and {names[lowest - 1]} is off; expected none to be off that is more "
            f"severe than one that is on"
        )
    return LEVELS[max(lowest, min([LEVELS.index(before), *on]))]
