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
# Our tokens have 50 characters. Longer values are not hashed, so senders cannot cause work.
_MAX_HEADER_CHARS = 1024
# One token has as many spellings as "Bearer" has.
_MAX_KNOWN = 4096


class Principal:
    """The sender of a request: a token and its rate."""

    __slots__ = ("limit", "token")

    def __init__(self, token: Token, limit: RateLimit | None) -> None:
        self.token = token
        self.limit = limit

    @property
    def name(self) -> str:
        """The token's name."""
        return self.token.name

    def may_use(self, model: str) -> bool:
        """Returns whether the token may use a model."""
        return self.token.models is None or model in self.token.models


class Authorizer:
    """Checks tokens and their permissions. Thread-safe.

    The time of a look-up reveals nothing about the tokens. A dictionary compares a received digest only with one of the
    same 64-bit hash, whose key is random in each process; even then, a common prefix of two SHA-256 digests says
    nothing about a token. Previously accepted header values are found the same way.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        """Accepts these tokens."""
        self._by_digest: Mapping[str, Principal] = {}
        # Principals by the text of the header, for accepted values only.
        self._known: dict[str | bytes, Principal] = {}
        self.replace(tokens)

    @property
    def count(self) -> int:
        """Number of accepted tokens."""
        return len(self._by_digest)

    def replace(self, tokens: Iterable[Token]) -> None:
        """Accepts exactly these tokens from the next request on."""
        before = self._by_digest
        self._by_digest = {token.digest: _principal(token, before.get(token.digest)) for token in tokens}
        # Last: a thread that still reads the old dictionary adds to the old cache.
        self._known = {}

    def authenticate(self, metadata: Metadata) -> Principal:
        """Returns the sender of a request.

        Raises:
            Unauthenticated: the token is missing, repeated, malformed or unknown.
        """
        value: str | bytes | None = None
        for key, each in metadata:
            if key == HEADER:
                if value is not None:
                    raise Unauthenticated("the request has two authorization headers; send one")
                value = each
        if value is None:
            raise Unauthenticated("this server requires a token; send the header authorization: Bearer TOKEN")
        # Take the cache first: after a reload, an old result must not enter the new cache.
        known = self._known
        return known.get(value) or self._look_up(value, known)

    def check_caller(self, method: str, metadata: Metadata) -> None:
        """Checks that a request has a token or its method is open, but not what the token permits.

        Raises:
            Unauthenticated: as `authenticate`.
        """
        rule = RULES.get(method)
        if rule is None or rule.scopes:
            self.authenticate(metadata)

    def authorize(self, method: str, message: bytes, metadata: Metadata) -> Principal | None:
        """Returns the sender of a permitted request; None if the method is open to everyone.

        Args:
            method: full name, such as `/inference.GRPCInferenceService/ModelInfer`.
            message: the serialized request.
            metadata: its metadata, with keys in lower case.

        Raises:
            Unauthenticated: the token is missing, repeated, malformed or unknown.
            PermissionDenied: the token does not permit this.
            RateExceeded: the token exceeds its rate.
            InvalidRequest: the message cannot be parsed.
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
        """Checks that a token permits opening a stream; each of its requests is authorized separately.

        Raises:
            Unauthenticated, PermissionDenied: as `authorize`.
        """
        token = self.authenticate(metadata).token
        scopes = RULES[method].scopes
        if not scopes & token.scopes:
            raise _out_of_scope(token, method, scopes)

    def authorize_metrics(self, metadata: Metadata) -> None:
        """Checks that a token permits reading the metrics page.

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
    """Returns a token's principal; if its rate is unchanged, the count continues."""
    if token.rate is None:
        return Principal(token, None)
    if before is not None and before.limit is not None and before.limit.per_s == token.rate:
        return Principal(token, before.limit)
    return Principal(token, RateLimit(token.rate))


def _check_model(token: Token, method: str, rule: Rule, message: bytes) -> None:
    """Checks a request against the models that a token is limited to."""
    models = token.models or frozenset()
    allowed = f"token {token.name} is for {', '.join(sorted(models))} only"
    if rule.model == WHOLE_SERVER:
        raise PermissionDenied(f"{allowed}; {_short(method)} is about the whole server")
    # All of them, not only the last, as in protobuf: parsers need not agree on which one counts.
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
