"""`pixelserve token new`: makes an access token and its line for the server's token file."""

import json
import sys
from typing import Annotated

import typer

from pixelserve import tokens

from .exits import CommandError, Exit

_EPILOG = """The line goes into the server's file (--tokens), the token to the client:

\b
  pixelserve token new --scope infer --name shop >> tokens
  pixelserve token new --scope infer --name shop >> tokens 2> shop.token
  pixelserve classify scans/ --model mnist-cnn --token-file shop.token

For two models and at most 100 requests per second; and for deploying models:

\b
  pixelserve token new --scope infer --model mnist-cnn --model mnist-mlp --rate 100 >> tokens
  pixelserve token new --scope control --scope infer --name deploy --json | jq -r .token

The token is printed only once; the line holds its SHA-256 digest. docs/security.md explains the scopes.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make access tokens for a server's clients.")
    group.command("new", epilog=_EPILOG)(new)
    # Without it, typer would treat a group with one command as that command.
    group.callback()(lambda: None)
    app.add_typer(group, name="token")


def new(
    scope: Annotated[
        list[str], typer.Option(help="A scope: infer, observe or control; may be repeated.", metavar="SCOPE")
    ],
    name: Annotated[
        str | None,
        typer.Option(help="The owner, for the server's log; default: derived from the digest.", metavar="NAME"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A model that the token allows; may be repeated. Default: all.", metavar="NAME"),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Maximum requests per second.", metavar="NUMBER")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print both as JSON on stdout.")] = False,
) -> None:
    """Make a token: prints its line for the server's file on stdout, the token on stderr."""
    secret = tokens.new_token()
    digest = tokens.digest_of(secret)
    if model and not all(model):
        raise CommandError("--model is empty; expected a model's name", Exit.USAGE)
    try:
        token = tokens.Token(
            digest,
            tokens.check_name(f"token-{digest[:8]}" if name is None else name),
            tokens.parse_scopes([each for given in scope for each in given.split(",")]),
            frozenset(model) if model else None,
            None if rate is None else tokens.parse_rate(rate),
        )
    except tokens.TokensError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    if as_json:
        typer.echo(json.dumps({"token": secret, "line": token.line()}))
        return
    typer.echo(token.line())
    if sys.stderr.isatty():
        print("The token, shown only once:", file=sys.stderr)
    print(secret, file=sys.stderr)
