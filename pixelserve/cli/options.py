"""The options of all commands that talk to a server, and the connection made from them."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelserve.text import TextError, read_lines

from .exits import CommandError, Exit

if TYPE_CHECKING:
    from pixelserve.client import Client, Tls
    from pixelserve.client.channel import Configuration

DEFAULT_ADDRESSES = ["127.0.0.1:8001"]
_DEFAULT_TIMEOUT_S = 10.0
Name = Annotated[str, typer.Argument(help="The model's name.", metavar="NAME")]
"""The command's model."""
_PEM = {"exists": True, "dir_okay": False, "metavar": "FILE"}


@dataclass(frozen=True)
class Connection:
    """The server's address and how to connect."""

    address: list[str]
    """Addresses as host:port, used in turn."""
    timeout_s: float
    """Maximum seconds per request, including retries."""
    token: str | None
    """Bearer token sent with every request, or None."""
    token_file: Path | None
    """File that contains the token instead."""
    token_over_plain_text: bool
    """Whether the token may be sent to other machines without TLS."""
    tls: bool
    """Whether to use TLS even without the certificates below."""
    tls_ca: Path | None
    """PEM file of the trusted authorities; None: the system's."""
    tls_cert: Path | None
    """PEM file of the client's own certificate."""
    tls_key: Path | None
    """PEM file of the client certificate's key."""
    tls_server_name: str | None
    """The name in the server's certificate; None: the address's."""

    @property
    def tls_settings(self) -> "Tls | None":
        """The client's TLS settings; None: plain text."""
        from pixelserve.client import Tls

        if not (self.tls or self.tls_ca or self.tls_cert or self.tls_key or self.tls_server_name):
            return None
        return Tls(ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key, server_name=self.tls_server_name)

    @property
    def bearer(self) -> str | None:
        """The token from the option or the file, or None.

        Raises:
            CommandError: both were given, or the file cannot be read or is not a single line.
        """
        path = self.token_file
        if path is None:
            return self.token
        if self.token is not None:
            raise CommandError("--token-file and --token (or PIXELSERVE_TOKEN) exclude each other", Exit.USAGE)
        try:
            lines = read_lines(path)
        except OSError as error:
            raise CommandError(f"--token-file {path}: cannot be read: {error.strerror}", Exit.USAGE) from error
        except TextError as error:
            raise CommandError(f"--token-file {path}: {error}", Exit.USAGE) from error
        if len(lines) != 1:
            raise CommandError(f"--token-file {path}: holds {len(lines)} lines; expected one, the token", Exit.USAGE)
        return lines[0].strip()

    def client(self, **limits: Any) -> "Client":
        """Returns a client for the server; `limits` are further arguments, omitted if None."""
        from pixelserve.client import Client

        given = {name: value for name, value in limits.items() if value is not None}
        return Client(
            self.address,
            timeout_s=self.timeout_s,
            tls=self.tls_settings,
            token=self.bearer,
            token_over_plain_text=self.token_over_plain_text,
            **given,
        )

    def configuration(self) -> "Configuration":
        """Returns the configuration for channels to the server, for requests that bypass the client."""
        from pixelserve.client import Retry
        from pixelserve.client.channel import Configuration

        return Configuration.of(
            self.address,
            timeout_s=self.timeout_s,
            retry=Retry(attempts=1),
            tls=self.tls_settings,
            token=self.bearer,
            token_over_plain_text=self.token_over_plain_text,
            batch_size=1,
            max_in_flight=1,
        )


def _options(
    address: Annotated[
        list[str],
        typer.Option(
            envvar="PIXELSERVE_ADDRESS",
            help="The server; may be repeated to use several in turn.",
            metavar="HOST:PORT",
        ),
    ] = DEFAULT_ADDRESSES,
    timeout_s: Annotated[
        float, typer.Option(min=0.001, help="Maximum seconds per request, including retries.", metavar="SECONDS")
    ] = _DEFAULT_TIMEOUT_S,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="PIXELSERVE_TOKEN",
            help="Bearer token; the variable keeps it out of the process list.",
            metavar="TOKEN",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="PIXELSERVE_TOKEN_FILE", help="A file with the token on one line.", metavar="FILE"),
    ] = None,
    token_over_plain_text: Annotated[
        bool,
        typer.Option(
            "--token-over-plain-text", help="Send the token to other machines without TLS, readable on the network."
        ),
    ] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS and trust gRPC's default authorities.")] = False,
    tls_ca: Annotated[Path | None, typer.Option(help="Use TLS and trust these authorities (PEM).", **_PEM)] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="The client's certificate (PEM).", **_PEM)] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).", **_PEM)] = None,
    tls_server_name: Annotated[
        str | None,
        typer.Option(help="The name in the server's certificate, if it differs from the address.", metavar="NAME"),
    ] = None,
) -> None:
    """Defines the options."""


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the connection options to a command with a keyword `connection`, after its own options."""
    return extended(command, "connection", inspect.signature(_options).parameters.values(), Connection)


def extended(
    command: Callable[..., None], keyword: str, options: Iterable[inspect.Parameter], make: Callable[..., Any]
) -> Callable[..., None]:
    """Adds options to a command, after its own.

    Args:
        command: receives the result of `make` as `keyword`.
        keyword: the argument's name.
        options: the options, as parameters of a typer command.
        make: called with each option's value by name.
    """
    own = [one for one in inspect.signature(command).parameters.values() if one.name != keyword]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own, *options]]
    names = [one.name for one in parameters[len(own) :]]

    def run(**arguments: Any) -> None:
        made = make(**{name: arguments.pop(name) for name in names})
        command(**{keyword: made}, **arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    return run
