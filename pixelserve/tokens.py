"""Access tokens, and the file with the digests of a server's accepted tokens.

Each line of the file is one token: the SHA-256 digest of its text in hexadecimal, then fields in any order.

    # shop's web server, until 2027
    9f86d081…0f00a08 name=shop scopes=infer models=mnist-cnn,mnist-mlp rate=100
"""

import hashlib
import math
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, unquote

PREFIX = "ps_"
"""The prefix of our tokens, so secret scanners can find leaked ones."""
MAX_TOKENS = 10_000
"""Maximum tokens in a file."""

_RANDOM_BYTES = 32
# 32 bytes in base64url without padding.
_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_FIELDS = ("name", "scopes", "models", "rate")


class Scope(StrEnum):
    """What a token permits."""

    INFER = "infer"
    """Using models: inference, classification, and the metadata that clients need."""
    OBSERVE = "observe"
    """Observing the server: metrics, statistics, log and trace settings, the repository's index."""
    CONTROL = "control"
    """Changing the server: loading, logs, traces, shared memory."""


class TokensError(ValueError):
    """A file of tokens, or a field of it, is invalid; the message says what was expected, and never shows a digest."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        """Stores the facts.

        Args:
            problem: what happened, what was expected, and what to do.
            line: the line of the file, from 1, or None.
        """
        self.problem, self.line = problem, line
        super().__init__(problem if line is None else f"line {line}: {problem}")


@dataclass(frozen=True)
class Token:
    """A server's record of a token, without the token itself."""

    digest: str
    """SHA-256 of its text, 64 lowercase hexadecimal digits."""
    name: str
    """Its owner, for logs and errors; not necessarily unique, so a successor can have the same name."""
    scopes: frozenset[Scope]
    """Its scopes; at least one."""
    models: frozenset[str] | None = None
    """The models that it is limited to; None: all."""
    rate: float | None = None
    """Maximum requests per second; None: no limit."""

    def line(self) -> str:
        """Returns its line in the file, without the line end."""
        fields = [self.digest, f"name={self.name}", f"scopes={','.join(sorted(self.scopes))}"]
        if self.models is not None:
            fields.append(f"models={','.join(quote(model, safe='') for model in sorted(self.models))}")
        if self.rate is not None:
            fields.append(f"rate={self.rate:.6f}".rstrip("0").rstrip("."))
        return " ".join(fields)


def new_token() -> str:
    """Returns a new random token: `ps_` and 256 bits."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(token: str) -> str:
    """Returns a token's SHA-256 digest in lowercase hexadecimal.

    Unlike a password's, it is not salted or slow: a random token of 256 bits cannot be guessed from it.
    """
    return hashlib.sha256(token.encode()).hexdigest()


def parse_tokens(text: str) -> tuple[Token, ...]:
    """Returns the tokens in a file's text, in order.

    Raises:
        TokensError: a line is invalid, there are no tokens, or the last line has no end, as in a file that is being
            written.
    """
    if text and not text.endswith("\n"):
        raise TokensError("the last line has no line end, so the file may be incomplete; end it with one")
    tokens: dict[str, Token] = {}
    lines: dict[str, int] = {}
    # Not splitlines, which also splits at characters that editors do not show as line ends.
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        try:
            token = _parse_line(content)
        except TokensError as error:
            raise TokensError(error.problem, number) from None
        if token.digest in tokens:
            raise TokensError(f"has the digest of line {lines[token.digest]} again; keep one of them", number)
        if len(tokens) == MAX_TOKENS:
            raise TokensError(f"is one token too many; at most {MAX_TOKENS:,} are accepted", number)
        tokens[token.digest], lines[token.digest] = token, number
    if not tokens:
        raise TokensError("it holds no tokens; add the line that `pixelserve token new --scope infer` prints")
    return tuple(tokens.values())


def _parse_line(line: str) -> Token:
    digest, *rest = line.split()
    if digest.startswith(PREFIX):
        raise TokensError("begins with a token; expected its digest. Replace the token: it has been in a file")
    if _DIGEST.fullmatch(digest.lower()) is None:
        raise TokensError(f"begins with {len(digest)} characters; expected a SHA-256 digest: 64 hexadecimal digits")
    values: dict[str, str] = {}
    for field in rest:
        name, equals, value = field.partition("=")
        if name not in _FIELDS or not equals:
            # Without "=" it may be anything, even a secret.
            shown = f'the field "{name}="' if equals and len(name) <= 16 else "something that is not a field"
            raise TokensError(f"has {shown}; expected {', '.join(f'{each}=…' for each in _FIELDS)}")
        if name in values:
            raise TokensError(f"has {name}= twice; expected it once")
        values[name] = value
    for name in ("name", "scopes"):
        if name not in values:
            raise TokensError(f"has no {name}=…; expected DIGEST name=NAME scopes=SCOPE,SCOPE")
    return Token(
        digest.lower(),
        check_name(values["name"]),
        parse_scopes(values["scopes"].split(",")),
        _parse_models(values["models"]) if "models" in values else None,
        parse_rate(values["rate"]) if "rate" in values else None,
    )


def check_name(name: str) -> str:
    """Returns a token's name.

    Raises:
        TokensError: it is not a name, or a token, which must not end up in logs.
    """
    if _TOKEN.fullmatch(name):
        raise TokensError("name= holds a token; expected a name for it. Replace the token: it has been in a file")
    if _NAME.fullmatch(name) is None:
        raise TokensError(f"name is {_shown(name)}; expected 1 to 64 letters, digits and . _ @ -")
    return name


def parse_scopes(names: list[str]) -> frozenset[Scope]:
    """Returns scopes by name.

    Raises:
        TokensError: there is none, or one is unknown.
    """
    expected = f"expected some of {', '.join(Scope)}"
    if not names or names == [""]:
        raise TokensError(f"scopes is empty; {expected}")
    if unknown := next((name for name in names if name not in list(Scope)), None):
        raise TokensError(f"scope {_shown(unknown)} is unknown; {expected}")
    if "" in names:
        raise TokensError(f"scopes has an empty one between its commas; {expected}")
    return frozenset(map(Scope, names))


def _parse_models(value: str) -> frozenset[str]:
    names = [unquote(name) for name in value.split(",")]
    if not all(names):
        raise TokensError("models has an empty name; expected names with commas between them, or no models=")
    return frozenset(names)


def parse_rate(value: str) -> float:
    """Returns a rate in requests per second.

    Raises:
        TokensError: it is not a positive decimal number.
    """
    rate = float(value) if _RATE.fullmatch(value) else math.nan
    if not rate > 0:
        raise TokensError(f"rate is {_shown(value)}; expected requests per second, more than 0, such as 100 or 0.5")
    return rate


def _shown(value: str) -> str:
    """Returns a value for a message, unless its length suggests a secret."""
    return f'"{value}"' if value.isprintable() and len(value) <= 32 else f"{len(value)} other characters"
