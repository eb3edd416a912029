"""TraceSetting: the settings of tracing, of which there is none."""

from pixelserve.oip import inference_pb2 as pb

from ..errors import InvalidRequest, Unimplemented
from ..repository.catalogue import Catalogue

# Triton's settings and their defaults (its trace extension), under which nothing is traced.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "trace_level": ("OFF",),
    "trace_rate": ("1000",),
    "trace_count": ("-1",),
    "log_frequency": ("0",),
    "trace_file": ("",),
    "trace_mode": ("triton",),
}


class TraceSettings:
    """Answers TraceSetting. May be called from any thread."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Stores what it is handed: the loaded models."""
        self._catalogue = catalogue

    def __call__(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Returns the settings, of a model or of the server, which are always the same.

        Raises:
            NotFound: no such model, or no version of it is ready.
            InvalidRequest: a setting is unknown.
            Unimplemented: a setting is to have another value.
        """
        if request.model_name:
            self._catalogue.get(request.model_name)
        for name, asked in sorted(request.settings.items()):
            if name not in _SETTINGS:
                raise InvalidRequest(f'trace setting "{name}" is unknown; expected {", ".join(_SETTINGS)}')
            # Without values a setting is to return to its default.
            if asked.value and tuple(asked.value) != _SETTINGS[name]:
                raise Unimplemented(
                    f"trace setting {name} is {list(_SETTINGS[name])} and cannot be changed: this server traces "
                    f"nothing; ModelStatistics and the metrics page have times"
                )
        response = pb.TraceSettingResponse()
        for name, values in _SETTINGS.items():
            response.settings[name].value[:] = values
        return response
