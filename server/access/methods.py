"""What each method needs of a token: one table. A method that is not in it is denied to every token."""

from collections.abc import Mapping
from dataclasses import dataclass

from pixelserve.tokens import Scope

NO_MODEL = 0
"""In place of a field's number: the method is about no model."""
WHOLE_SERVER = -1
"""In place of a field's number: the method shows or changes all models, so a token limited to some may not call it."""


@dataclass(frozen=True)
class Rule:
    """What a token needs to call a method."""

    scopes: frozenset[Scope] = frozenset()
    """Scopes of which it needs one; empty: the method is open, and no token is needed."""
    model: int = NO_MODEL
    """Number of the request's field that names the model; or NO_MODEL, or WHOLE_SERVER."""
    lists: bool = False
    """Whether a request without a model is answered with those that the token is for."""
    change: int = 0
    """Number of the request's field that makes it a change of the server, which needs `control`; 0: there is none."""


def _rule(*scopes: Scope, model: int = NO_MODEL, lists: bool = False, change: int = 0) -> Rule:
    return Rule(frozenset(scopes), model, lists, change)


_OPEN = Rule()
_INFER, _OBSERVE, _CONTROL = Scope

_INFERENCE: dict[str, Rule] = {
    # Balancers and kubelets ask without a token, and learn one bit.
    "ServerLive": _OPEN,
    "ServerReady": _OPEN,
    "ServerMetadata": _rule(*Scope),
    # Clients that load models or watch the server poll this.
    "ModelReady": _rule(*Scope, model=1),
    "ModelMetadata": _rule(_INFER, model=1),
    "ModelConfig": _rule(_INFER, model=1),
    "ModelInfer": _rule(_INFER, model=1),
    # Its requests are checked as calls of ModelInfer.
    "ModelStreamInfer": _rule(_INFER),
    "ModelStatistics": _rule(_OBSERVE, model=1, lists=True),
    # Not for infer, which has ListModels: it shows what is on the disk and why it does not load.
    "RepositoryIndex": _rule(_OBSERVE, _CONTROL, lists=True),
    "RepositoryModelLoad": _rule(_CONTROL, model=2),
    "RepositoryModelUnload": _rule(_CONTROL, model=2),
    "LogSettings": _rule(_OBSERVE, _CONTROL, model=WHOLE_SERVER, change=1),
    "TraceSetting": _rule(_OBSERVE, _CONTROL, model=WHOLE_SERVER, change=1),
    # Also to list: a region's name is all that a request needs to read and write it.
    **{
        f"{kind}SharedMemory{action}": _rule(_CONTROL, model=WHOLE_SERVER)
        for kind in ("System", "Cuda")
        for action in ("Status", "Register", "Unregister")
    },
}

RULES: Mapping[str, Rule] = {
    **{f"/inference.GRPCInferenceService/{name}": rule for name, rule in _INFERENCE.items()},
    "/pixelserve.v1.Classifier/Classify": _rule(_INFER, model=1),
    "/pixelserve.v1.Classifier/Samples": _rule(_INFER, model=1),
    "/pixelserve.v1.Classifier/ListModels": _rule(_INFER, model=1, lists=True),
    "/pixelserve.v1.Classifier/Figures": _rule(_OBSERVE, model=1, lists=True),
    # Answered before the table is asked where the transport serves them itself.
    "/grpc.health.v1.Health/Check": _OPEN,
    "/grpc.health.v1.Health/Watch": _OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _OPEN,
}
"""Rule by the method's full name."""

METRICS_PAGE = _rule(_OBSERVE, model=WHOLE_SERVER)
"""What GET /metrics needs."""
