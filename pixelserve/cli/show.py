"""`pixelserve show`: one picture, as the model saw it, beside the bars of its classes."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pixelserve.imaging.formats import NAMES

from . import drawn, extras, terminal
from .exits import CommandError, Exit
from .options import Connection, with_connection

if TYPE_CHECKING:
    from pixelserve.client import Prediction

_EPILOG = """In the terminal, with the best ten classes:

\b
  pixelserve show digit.png --model mnist-cnn

As a picture, for a document (needs the extra training, for Matplotlib):

\b
  pixelserve show photo.jpg --model cifar10 --to photo-bars.png

The picture is drawn as the model saw it: cropped, scaled and, if it does so, inverted. A bar of probabilities is full
at 100 %; a model that returns scores has bars relative to its best score. For many pictures, and for programs, use
pixelserve classify.
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("show", epilog=_EPILOG)(with_connection(show))


def show(
    picture: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, readable=False, help=f"A picture ({NAMES}).", metavar="PICTURE"),
    ],
    model: Annotated[str, typer.Option(help="The model's name; `pixelserve models list` shows them.", metavar="NAME")],
    model_version: Annotated[
        str, typer.Option(help="The model's version; default: the server's choice.", metavar="NUMBER")
    ] = "",
    top: Annotated[int, typer.Option(min=1, max=50, help="How many of the best classes to draw.")] = 10,
    inversion: Annotated[
        Literal["never", "always", "auto"] | None,
        typer.Option(help="Invert the picture; default: the model's setting."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Draw into this PNG file instead of the terminal; needs the extra training.", metavar="FILE"),
    ] = None,
    *,
    connection: Connection,
) -> None:
    """Draw a picture beside the bars of its classes."""
    if to is not None:
        _check(picture, to)
        # Before the server is asked: a missing library is known now.
        extras.load("pixelserve_training.report.shown", extra="training")
    with connection.client() as client:
        prediction = client.classify(
            picture, model=model, version=model_version, top_k=top, inversion=inversion, return_seen=True
        )
    if prediction.error or not prediction.classes:
        raise CommandError(f"{picture}: {prediction.error or 'the server returned no class'}", Exit.PICTURE_FAILED)
    if to is None:
        _print(prediction)
    else:
        _write(prediction, to)
    typer.echo(terminal.printable(_sentence(prediction, to)))


def _check(picture: Path, to: Path) -> None:
    if to.suffix.lower() != ".png":
        raise typer.BadParameter(f"--to: {to} is not a PNG file; give a name that ends in .png")
    if to.resolve() == picture.resolve():
        raise typer.BadParameter(f"--to: {to} is the picture itself; give another name")


def _sentence(prediction: "Prediction", to: Path | None) -> str:
    best = prediction.best
    number = f"score {best.score:.4g}" if best.probability is None else f"{best.probability:.2%}"
    where = "" if to is None else f"; drawn in {to}"
    return f"{prediction.source}: {best.label} {number}, {prediction.model} version {prediction.version}{where}"


def _print(prediction: "Prediction") -> None:
    from rich.table import Table

    screen = terminal.console()
    both = Table.grid(padding=(0, 2, 0, 0))
    bars = drawn.bars(prediction.classes, screen)
    # Older servers do not return what the model saw.
    both.add_row(*([] if prediction.seen is None else [drawn.picture(prediction.seen, screen)]), bars)
    terminal.print_table(both)


def _write(prediction: "Prediction", to: Path) -> None:
    content = extras.load("pixelserve_training.report.shown", extra="training").prediction(
        prediction.seen,
        [one.label for one in prediction.classes],
        [one.score for one in prediction.classes],
        as_probability=prediction.best.probability is not None,
    )
    # A link stays a link; its target is replaced.
    target = to.resolve()
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        staged.write_bytes(content)
        staged.replace(target)
    except OSError as error:
        raise CommandError(
            f"{to} cannot be written: {error.strerror}; choose a file in a folder that you can write to", Exit.USAGE
        ) from error
    finally:
        staged.unlink(missing_ok=True)
