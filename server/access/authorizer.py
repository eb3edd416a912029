"""Decides whether a request's token allows it."""

import re
from collections.abc import Iterable, Mapping

from pixelserve.tokens import Scope, Token, digest_of

from ..errors import PermissionDenied, RateExceeded, Unauthenticated
from .fields import values_of
from .methods import METRICS_PAGE, RULES, WHOLE_SERVER, Rule
from .rate import RateLimit

Metadata = Iterable[tuple[str, str | bytes]]

HEADER = "authorization"
"""The header, or key of gRPC's metadata, that a token comes in."""

# RFC 6750, section 2.1; a scheme's case does not matter.
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)
# Ours have 50 characters. A longer value is not hashed, so that its sender cannot keep us busy.
_MAX_HEADER_CHARS = 1024
# One token has as many spellings as there are of "Bearer".
_MAX_KNOWN = 4096


class Principal:
    """Who sends a request: a token, and how often it was used."""

    __slots__ = ("limit", "token")

    def __init__(self, token: Token, limit: RateLimit | None) -> None:
        self.token = token
        self.limit = limit

    @property
    def name(self) -> str:
        """The token's name."""
        return self.token.name

    def may_use(self, model: str) -> bool:
        """Returns whether it is for a model."""
        return self.token.models is None or model in self.token.models


class Authorizer:
    """Checks tokens and what they allow. May be called from any thread.

    How long a look-up takes tells nothing about the tokens. A dictionary compares a received digest only with one of
    the same 64-bit hash, whose key is random in each process; and even then, that two SHA-256 digests begin alike says
    nothing about a token. Header values that were accepted before are found the same way.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        """Accepts these tokens."""
        self._by_digest: Mapping[str, Principal] = {}
        # What came in the header, by its text; only of values that were accepted.
        self._known: dict[str | bytes, Principal] = {}
        self.replace(tokens)

    @property
    def count(self) -> int:
        """How many tokens are accepted."""
        return len(self._by_digest)

    def replace(self, tokens: Iterable[Token]) -> None:
        """Accepts these tokens from the next request on, and no others."""
        before = self._by_digest
        self._by_digest = {token.digest: _principal(token, before.get(token.digest)) for token in tokens}
        # After the others: a thread that still looks in the old dictionary adds to the old memory.
        self._known = {}

    def authenticate(self, metadata: Metadata) -> Principal:
        """Returns who sends a request.

        Raises:
            Unauthenticated: it brings no token, two, or one that is malformed or unknown.
        """
        value: str | bytes | None = None
        for key, each in metadata:
            if key == HEADER:
                if value is not None:
                    raise Unauthenticated("the request has two authorization headers; send one")
                value = each
        if value is None:
            raise Unauthenticated("this server requires a token; send the header authorization: Bearer TOKEN")
        # The memory first: a reload must not find what the old tokens made of the value in the new memory.
        known = self._known
        return known.get(value) or self._look_up(value, known)

    def check_caller(self, method: str, metadata: Metadata) -> None:
        """Does nothing if a request comes with a token, or its method is open; what the token allows is not looked at.

        Raises:
            Unauthenticated: as `authenticate`.
        """
        rule = RULES.get(method)
        if rule is None or rule.scopes:
            self.authenticate(metadata)

    def authorize(self, method: str, message: bytes, metadata: Metadata) -> Principal | None:
        """Returns who sends a request, which its token allows; None: the method is open to everyone.

        Args:
            method: full name, such as `/inference.GRPCInferenceService/ModelInfer`.
            message: the serialized request.
            metadata: what came beside it: keys in lower case, and their values.

        Raises:
            Unauthenticated: it brings no token, two, or one that is malformed or unknown.
            PermissionDenied: the token does not allow this.
            RateExceeded: the token is used more often than it may be.
            InvalidRequest: the message cannot be read.
        """
        rule = RULES.get(method)
        if rule is not None and not rule.scopes:
            return None
        principal = self.authenticate(metadata)
        token = principal.token
        if rule is None:
            raise PermissionDenied(f"no token allows {_short(method)}")
        if not rule.scopes & token.scopes:
            raise _out_of_scope(token, method, rule.scopes)
        if rule.change and Scope.CONTROL not in token.scopes and values_of(message, rule.change):
            raise _out_of_scope(token, f"a change by {_short(method)}", (Scope.CONTROL,))
        if token.models is not None and rule.model:
            _check_model(token, method, rule, message)
        _take(principal)
        return principal

    def authorize_stream(self, method: str, metadata: Metadata) -> None:
        """Does nothing if a token allows to open a stream; its requests are authorized each for itself.

        Raises:
            Unauthenticated, PermissionDenied: as `authorize`.
        """
        token = self.authenticate(metadata).token
        scopes = RULES[method].scopes
        if not scopes & token.scopes:
            raise _out_of_scope(token, method, scopes)

    def authorize_metrics(self, metadata: Metadata) -> None:
        """Does nothing if a token allows to read the page of metrics.

        Raises:
            Unauthenticated, PermissionDenied, RateExceeded: as `authorize`.
        """
        principal = self.authenticate(metadata)
        token = principal.token
        if not METRICS_PAGE.scopes & token.scopes:
            raise _out_of_scope(token, "/metrics", METRICS_PAGE.scopes)
        if token.models is not None:
            _check_model(token, "/metrics", METRICS_PAGE, b"")
        _take(principal)

    def _look_up(self, value: str | bytes, known: dict[str | bytes, Principal]) -> Principal:
        by_digest = self._by_digest
        is_short = isinstance(value, str) and len(value) <= _MAX_HEADER_CHARS
        bearer = _BEARER.fullmatch(value) if is_short else None  # type: ignore[arg-type]  # it is a str
        if bearer is None:
            raise Unauthenticated("the authorization header is malformed; expected authorization: Bearer TOKEN")
        principal = by_digest.get(digest_of(bearer[1]))
        if principal is None:
            raise Unauthenticated("the token is unknown: mistyped, or revoked")
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[value] = principal
        return principal


def _principal(token: Token, before: Principal | None) -> Principal:
    """Returns who a token stands for; one that had the same rate before goes on counting."""
    if token.rate is None:
        return Principal(token, None)
    if before is not None and before.limit is not None and before.limit.per_s == token.rate:
        return Principal(token, before.limit)
    return Principal(token, RateLimit(token.rate))


def _check_model(token: Token, method: str, rule: Rule, message: bytes) -> None:
    """Does nothing if a token that is limited to some models allows this request."""
    models = token.models or frozenset()
    allowed = f"token {token.name} is for {', '.join(sorted(models))} only"
    if rule.model == WHOLE_SERVER:
        raise PermissionDenied(f"{allowed}; {_short(method)} is about the whole server")
    # All of them, and not just the last, which protobuf would take: no two readers need agree on which that is.
    names = [value.decode(errors="replace") for value in values_of(message, rule.model)] or [""]
    for name in names:
        if not name and rule.lists:
            continue
        if name not in models:
            raise PermissionDenied(f"{allowed}; the request is for {_shown(name)}")


def _take(principal: Principal) -> None:
    if principal.limit is not None and (wait_s := principal.limit.take()):
        token = principal.token
        raise RateExceeded(f"token {token.name} may be used {token.rate:g} times per second; retry later", wait_s)


def _out_of_scope(token: Token, what: str, scopes: Iterable[Scope]) -> PermissionDenied:
    return PermissionDenied(
        f"{_short(what)} needs the scope {' or '.join(sorted(scopes))}; token {token.name} has "
        f"{', '.join(sorted(token.scopes))}"
    )


def _short(method: str) -> str:
    return method.rpartition("/")[2] if method.count("/") == 2 else method


def _shown(name: str) -> str:
    return f'model "{name[:100]}"' if name else "every model; name one"
