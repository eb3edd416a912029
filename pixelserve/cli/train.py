"""`pixelserve train`: trains a recipe."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import extras, terminal, training_text

_EPILOG = """Examples:

\b
  pixelserve train mnist-cnn
  pixelserve train mnist-cnn --data-dir data        # data/mnist/train-images-idx3-ubyte.gz and so on
  pixelserve train mnist-cnn --dry-run              # layers, shapes and samples; nothing is trained
  pixelserve train mnist-cnn --epochs 1 --run-dir runs/quick
  pixelserve train mnist-cnn --watch                # the curves grow in your browser
  pixelserve train mnist-cnn --mlflow local
  pixelserve train mnist-cnn --l2 1e-4 --dropout 0.3 --early-stopping 3 --epochs 50
  pixelserve train mnist-cnn --set optimizer.name=sgd --set optimizer.momentum=0.9
  pixelserve train mnist-cnn --folds 5
  pixelserve train mnist-cnn --ensemble bagging --members 5
  pixelserve train mnist-cnn --ensemble stacking --with mnist-mlp --with mnist-mlp-1000

Your own network, in a file with a RECIPE (docs/training-api.md):

\b
  pixelserve train my_recipe.py

Your own pictures, pets/cat/*.jpg and pets/dog/*.jpg:

\b
  pixelserve train mnist-cnn --images pets --run-dir runs/pets
  pixelserve train transfer --images pets --size 96 --backbone cifar10 --weights models/cifar10

Once its settings are chosen, the final network learns the held-out samples too:

\b
  pixelserve train mnist-cnn --run-dir runs/choice
  pixelserve train mnist-cnn --final runs/choice --run-dir runs/final

A figure with its spread, of seeds named beforehand:

\b
  pixelserve train mnist-cnn --seeds 0,1,2 --run-dir runs/three

Ctrl-C saves the last completed and the best epoch; continue from there:

\b
  pixelserve train mnist-cnn --run-dir runs/quick --resume

Then export the model into a repository:

\b
  pixelserve export runs/quick --to models
"""


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(epilog=_EPILOG)(train)


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="The recipe's name, such as mnist-cnn, or a file of your own.", metavar="RECIPE|FILE.py"),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_DATA_DIR",
            help="Folder of the data set's official files; without it, Keras downloads them.",
            metavar="DIR",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The run's folder, which must not exist; default: runs/RECIPE-TIME.", metavar="DIR"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="The optimizer's step size; with a schedule, the largest.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same weights on the same machine.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Train once per seed, into seed-N in --run-dir, and print mean and spread; name them before the runs.",
            metavar="0,1,2",
        ),
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            help="Training samples to hold out, which the run is measured on: a share such as 0.1, or a number such as "
            "10000. Default: the recipe's, 10,000 for the zoo's images.",
            metavar="SHARE|COUNT",
        ),
    ] = None,
    l1: Annotated[float | None, typer.Option(help="Factor of the weights' absolute values in the loss.")] = None,
    l2: Annotated[float | None, typer.Option(help="Factor of the weights' squares in the loss.")] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of the last Dense layer's inputs that each step drops.", metavar="RATE")
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many epochs without a lower held-out loss, and keep the best epoch's weights.",
            metavar="PATIENCE",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross-validate first: train K models, each measured on its own part.", metavar="K"),
    ] = None,
    ensemble: Annotated[
        str | None,
        typer.Option(help="Train several models and combine them into one.", metavar="bagging|boosting|stacking"),
    ] = None,
    members: Annotated[int | None, typer.Option(help="Number of models in an ensemble; default: 5.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other plain value of the recipe, such as optimizer.momentum=0.9; repeatable.",
            metavar="PATH=VALUE",
        ),
    ] = None,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Another recipe of the same data set as a member of the ensemble, beside RECIPE; repeatable.",
            metavar="RECIPE",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Your own pictures instead of the recipe's data set: a folder with one folder per class, a .csv file "
            "of paths and labels, or an .npz file.",
            metavar="SOURCE",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="The size of your own pictures for the network: 96, or height and width.", metavar="96x128"),
    ] = None,
    colour: Annotated[
        bool | None, typer.Option("--colour/--grey", help="Learn your own pictures in colour, or in grey.")
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(help="How your own pictures are fitted, such as fit=crop (docs/pictures.md).", metavar="LINE"),
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="Vary your own pictures while training.", metavar="none|light|photo")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="For the recipe transfer: the trained network to start from, such as cifar10 or mobilenet_v3_small.",
            metavar="NAME",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Its weights: a run's folder, a file, or a version's folder; random, to compare with. Default: "
            "Keras downloads those of ImageNet.",
            metavar="SOURCE",
        ),
    ] = None,
    tuning_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs in which the backbone learns too, after those of the last layer alone; 0: none."),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(
            help="Give small classes the influence of large ones: in the loss, or by repeating samples.",
            metavar="none|weights|sampling",
        ),
    ] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Skip pictures that cannot be read.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs for TensorBoard into the run's folder.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write the training curves after each epoch to RUN.watch.html, and open it."),
    ] = False,
    mlflow: Annotated[
        str | None,
        typer.Option(
            help="Log to MLflow: a server's URL, sqlite:///FILE, or local for mlflow.db here (extra `mlflow`).",
            metavar="local|URI",
        ),
    ] = None,
    final: Annotated[
        Path | None,
        typer.Option(
            help="Train the final network: on all training samples, with the settings and the temperature of a "
            "finished run, whose figures it has. That run's options need not be repeated.",
            metavar="RUN",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue a stopped run in --run-dir; start it if it does not exist, keep it if it is finished.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the model's layers and the samples of each split; train nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Train a recipe, measure it on samples held out of training and write a run folder.

    The test splits of the zoo's data sets are not read: see `pixelserve evaluate --split test`.
    """
    fit = extras.load("pixelserve_training.running.fit", extra="training")
    options = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "held_out": hold_out,
        "l1": l1,
        "l2": l2,
        "dropout": dropout,
        "early_stopping": early_stopping,
        "folds": folds,
        "ensemble": ensemble,
        "members": members,
        "balance": balance,
        "with": tuple(others) if others else None,
    }
    overrides = extras.load("pixelserve_training.running.overrides", extra="training").merged(options, settings)
    asked = {"overrides": overrides, "tensorboard": tensorboard, "images": images, "skip_broken": skip_broken}
    asked["pictures"] = fit.PictureOptions(
        size=size,
        channels=None if colour is None else 3 if colour else 1,
        picture=picture,
        augment=augment,
        backbone=backbone,
        weights=weights,
        tuning_epochs=tuning_epochs,
    )
    asked |= {"data_dir": data_dir, "run_dir": run_dir, "final": final}
    several = extras.load("pixelserve_training.running.seeds", extra="training") if seeds is not None else None
    if dry_run:
        found = several.describe(several.parse(seeds), recipe, **asked) if several else fit.describe(recipe, **asked)
        _print_dry_run(found, as_json=as_json)
        return
    asked |= {"watch": watch, "mlflow": mlflow, "resumed": resume}
    if several:
        found = several.train(several.parse(seeds), recipe, **asked)
        for line in [json.dumps(found.as_json(), indent=2)] if as_json else training_text.seed_lines(found):
            typer.echo(line)
        return
    run = fit.train(recipe, **asked)
    if as_json:
        typer.echo(json.dumps(run.as_json(), indent=2))
        return
    if run.cross_validation is not None:
        _print_folds(run.cross_validation)
    for line in training_text.lines(run):
        typer.echo(line)


def _print_dry_run(found: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
        return
    shown = terminal.table("layer", "kind", "output shape", "parameters", right=("parameters",))
    for layer in found.layers:
        shape = " × ".join("N" if size is None else str(size) for size in layer.output_shape)
        terminal.add_row(shown, layer.name, layer.kind, shape, f"{layer.parameters:,}")
    if found.layers:
        terminal.add_row(shown, "total", "", "", f"{found.parameters:,}")
        terminal.print_table(shown)
        typer.echo()
    splits = terminal.table("split", "samples", *found.dataset.labels, right=("samples", *found.dataset.labels))
    for name, split in found.splits.items():
        terminal.add_row(splits, name, f"{len(split):,}", *(f"{count:,}" for count in found.counts(name).values()))
    terminal.print_table(splits)
    epochs = getattr(found.recipe, "epochs", None)
    steps = "" if found.steps is None else f" of {found.steps:,} steps"
    seeds = f", once for each seed of {', '.join(map(str, found.seeds))}" if found.seeds else ""
    typer.echo(f"{found.recipe.name} on {found.dataset.name}: {epochs} epochs{steps}{seeds}; nothing was trained")


def _print_folds(validation: Any) -> None:
    for number, accuracy in enumerate(validation.accuracies, start=1):
        typer.echo(f"fold {number} accuracy {accuracy:.2%}")
    typer.echo(f"mean {validation.mean:.2%}, standard deviation {100 * validation.spread:.2f} points")
