"""The table of what each method requires of a token. A method not listed is denied to every token."""

from collections.abc import Mapping
from dataclasses import dataclass

from pixelserve.tokens import Scope

NO_MODEL = 0
"""Instead of a field number: the method concerns no model."""
WHOLE_SERVER = -1
"""Instead of a field number: the method concerns all models, so tokens limited to some may not call it."""


@dataclass(frozen=True)
class Rule:
    """What a method requires of a token."""

    scopes: frozenset[Scope] = frozenset()
    """Scopes, of which it requires one; empty: the method is open and needs no token."""
    model: int = NO_MODEL
    """Number of the request's field that names the model; or NO_MODEL, or WHOLE_SERVER."""
    lists: bool = False
    """Whether a request without a model is answered for the token's models."""
    change: int = 0
    """Number of the request's field that changes the server and so requires `control`; 0 if there is none."""


def _rule(*scopes: Scope, model: int = NO_MODEL, lists: bool = False, change: int = 0) -> Rule:
    return Rule(frozenset(scopes), model, lists, change)


_OPEN = Rule()
_INFER, _OBSERVE, _CONTROL = Scope

_INFERENCE: dict[str, Rule] = {
    # Balancers and kubelets have no token; the answer is one bit.
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
    # Not for infer, which has ListModels: the index shows what is on disk and why it does not load.
    "RepositoryIndex": _rule(_OBSERVE, _CONTROL, lists=True),
    "RepositoryModelLoad": _rule(_CONTROL, model=2),
    "RepositoryModelUnload": _rule(_CONTROL, model=2),
    "LogSettings": _rule(_OBSERVE, _CONTROL, model=WHOLE_SERVER, change=1),
    "TraceSetting": _rule(_OBSERVE, _CONTROL, model=WHOLE_SERVER, change=1),
    # Also for listing: a region's name is enough to read and write it.
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
    # A transport that serves these itself answers before this table is used.
    "/grpc.health.v1.Health/Check": _OPEN,
    "/grpc.health.v1.Health/Watch": _OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _OPEN,
}
"""Rules by a method's full name."""

METRICS_PAGE = _rule(_OBSERVE, model=WHOLE_SERVER)
"""What GET /metrics requires."""
