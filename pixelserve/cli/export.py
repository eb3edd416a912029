"""`pixelserve export`: exports a trained model into a model repository."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..interval import interval_of
from . import extras, pixels
from .panels import PanelCommand
from .picture_words import PANEL, with_words

_EPILOG = """A run of `pixelserve train`:

\b
  pixelserve export runs/mnist-cnn-20260101T120000Z --to models

Your own model, served with its class names (one per line in labels.txt):

\b
  pixelserve export pets.keras --name pets --labels labels.txt --to models

The same, trained on pixels divided by 255; compared and measured on real samples, so a server can verify it.
samples.npz holds the inputs as x and, if known, their labels as y:

\b
  python -c "import numpy; numpy.savez('samples.npz', x=images, y=labels)"
  pixelserve export pets.keras --name pets --labels labels.txt --samples samples.npz --pixel-scale 1/255 --to models

ONNX with normalised floats as input, channels first; clients then send pictures:

\b
  pixelserve export resnet.onnx --name resnet --labels labels.txt --picture imagenet --to models
  pixelserve export faces.onnx --name faces --labels labels.txt --fit crop --mean 0.5 --std 0.25 --to models

Existing ONNX, from PyTorch or scikit-learn; needs only the extra `export`, without TensorFlow:

\b
  pixelserve export iris.onnx --name iris --samples samples.npz --to models

Only if it is better than the version in service, on samples held out of training:

\b
  pixelserve train mnist-cnn --hold-out 0.1 --run-dir runs/next
  pixelserve export runs/next --to models --if-better --json | jq -r .verdict.reason

For phones and for OpenVINO, too; the files are written to build/also/mnist-cnn/1:

\b
  pixelserve export runs/next --to models --also tflite --also openvino --also-to build/also

Quantised to int8, for a smaller file and often more speed; prints the change in accuracy, size and time:


  pixelserve export runs/mnist-cnn-20260101T120000Z --precision int8 --name mnist-cnn-int8 --to models
"""


class Precision(StrEnum):
    """The number format a model computes in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class Converter(StrEnum):
    """The way from Keras to ONNX."""

    TF2ONNX = "tf2onnx"
    KERAS_JAX = "keras-jax"


class Format(StrEnum):
    """Another format beside ONNX."""

    TFLITE = "tflite"
    OPENVINO = "openvino"


class OutputKind(StrEnum):
    """The meaning of a classifier's output."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    SIGMOIDS = "sigmoids"
    SCORES = "scores"


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(cls=PanelCommand, epilog=_EPILOG)(with_words(export))


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run's folder, a .keras, .h5 or .onnx file, or a SavedModel folder.", metavar="SOURCE"),
    ],
    to: Annotated[Path, typer.Option(help="The model repository to write to.", metavar="DIR")],
    name: Annotated[str | None, typer.Option(help="The model's name; default for a run: its recipe's.")] = None,
    version: Annotated[int | None, typer.Option(help="The version's number; default: the next free one.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A file with one class label per line; default: the labels in the model, if any.",
            metavar="FILE",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="The output that the labels belong to; default: the one they fit.", metavar="NAME"),
    ] = None,
    output_kind: Annotated[
        OutputKind | None,
        typer.Option(
            help="The output's meaning; default: inferred from the graph and the samples. See docs/output-kind.md."
        ),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="An .npz file of real inputs x and, if known, labels y.", metavar="FILE")
    ] = None,
    pixel_scale: Annotated[
        pixels.PixelScale | None,
        typer.Option(
            parser=pixels.pixel_scale,
            help="The scaling of pixels in training, such as 1/255, or 1/127.5-1 for -1 to 1; clients then send "
            "pictures. Default: no scaling, if the model's first layers scale them; none: the input is floats.",
            metavar="SCALE",
        ),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            help="How to preprocess pictures for the model: imagenet, vit, keras, mnist, or words such as "
            "'fit=crop mean=0.5 std=0.25'; the flags below are added to it. Default: keras for Keras models. See "
            "docs/pictures.md.",
            metavar="LINE",
            rich_help_panel=PANEL,
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="The model's number format; float16 and int8 are refused if accuracy falls by more than 0.3 points."
        ),
    ] = Precision.FLOAT32,
    opset: Annotated[
        int | None,
        typer.Option(
            help="The version of ONNX's operator set to write; default: 17, or 18 with --converter keras-jax.",
            metavar="NUMBER",
        ),
    ] = None,
    converter: Annotated[
        Converter,
        typer.Option(
            help="What converts a Keras model: tf2onnx, or keras-jax, Keras's own export in an environment with JAX."
        ),
    ] = Converter.TF2ONNX,
    jax_python: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_JAX_PYTHON",
            help="Python of the environment for --converter keras-jax, which has the extra keras-jax; default: the one "
            "of make .venv/stamps/jax.",
            metavar="FILE",
        ),
    ] = None,
    also: Annotated[
        list[Format] | None,
        typer.Option(
            help="Also write the model for TensorFlow Lite or OpenVINO (needs the extra of that name); its runtime's "
            "outputs must equal ONNX Runtime's. Repeatable."
        ),
    ] = None,
    also_to: Annotated[
        Path | None,
        typer.Option(
            help="The folder of --also, outside the repository: the files are written to DIR/MODEL/VERSION.",
            metavar="DIR",
        ),
    ] = None,
    if_better: Annotated[
        bool,
        typer.Option(
            "--if-better",
            help="Write the version only if it predicts held-out samples better than the version in service, beyond "
            "chance (McNemar's test, p < 0.05); the exit code is 0 either way.",
        ),
    ] = False,
    max_batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Maximum samples in a batch, and in a request; default: 64, or as in the model's other versions.",
            metavar="NUMBER",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            parser=pixels.number,
            help="Maximum accepted difference from the original's output; default: 1e-5 (float16: 0.01), "
            "relative to the largest output if that is above 1.",
            metavar="NUMBER",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIXELSERVE_DATA_DIR",
            help="Folder of the data set's official files, for a run; without it, Keras downloads them.",
            metavar="DIR",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    *,
    words: dict[str, str],
) -> None:
    """Export a trained model as ONNX, with its evidence, into a model repository."""
    exporter = extras.load("pixelserve_training.exporting.export", extra="export")
    kind = output_kind.value if output_kind else None
    conversion = exporter.Conversion(converter.value, opset, jax_python)
    target = exporter.Target(
        *(to, name, version, tolerance, precision.value, output, max_batch_size, kind, if_better),
        conversion=conversion,
        also=tuple(each.value for each in also or ()),
        also_to=also_to,
    )
    if exporter.is_run(source):
        brought = {"labels": labels, "output": output, "samples": samples, "pixel-scale": pixel_scale}
        given = [name for name, value in (brought | {"picture": picture} | words).items() if value is not None]
        if given:
            raise typer.BadParameter(f"{source} is a run, which has its own settings: omit --{', --'.join(given)}")
        exported = exporter.export_run(source, target, data_dir=data_dir)
    else:
        exported = exporter.export_file(
            *(source, target),
            labels=labels,
            samples=samples,
            pixel_scale=pixel_scale.scale if pixel_scale else None,
            pixel_offset=pixel_scale.offset if pixel_scale else 0.0,
            size=pixels.size(words.pop("size")) if "size" in words else None,
            keeps_floats=pixel_scale is not None and pixel_scale.scale is None,
            picture=picture,
            words=words,
        )
    typer.echo(json.dumps(exported.as_json(), indent=2) if as_json else _summary(exported))


def _summary(exported: Any) -> str:
    slot = exported.slot
    if not exported.published:
        return f"not published: {exported.decision.reason}"
    lines = [f"{slot.model} version {slot.version}: {', '.join(exported.inputs)} -> {', '.join(exported.outputs)}"]
    if exported.output_kind is not None:
        lines.append(_output_kind(exported.output_kind))
    if exported.card.picture is not None:
        lines.append(f"accepts pictures: {exported.card.picture}")
    if exported.max_abs_error is not None:
        lines.append(f"differs from the original by at most {exported.max_abs_error:.2g}")
    evaluation = exported.card.evaluation
    if evaluation is not None:
        figures = ", ".join(_figure(name, value) for name, value in evaluation.metrics.items())
        if interval := interval_of(evaluation):
            figures += f" (95 % interval {interval[0]:.2%} to {interval[1]:.2%})"
        of = evaluation.choice_run
        whose = f", of the run {of.run} (seed {of.seed}), which did not learn them as this network did" if of else ""
        lines.append(f"{figures} on {evaluation.samples:,} samples ({evaluation.split}){whose}")
    if exported.card.quantization is not None:
        lines.append(_against_float32(exported))
    lines += [
        f"{other.format}: differs from ONNX Runtime by at most {other.max_abs_error:.2g} ({', '.join(other.files)})"
        for other in exported.card.other_formats
    ]
    if not exported.rows.allows_merging:
        lines.append(_unmerged(exported.rows))
    if not exported.golden_samples:
        lines.append("unverified: without --samples, nothing was compared and servers cannot check it")
    if exported.decision is not None:
        lines.append(f"published: {exported.decision.reason}")
    lines.append(f"next: pixelserve serve --model-repository {slot.repository}")
    return "\n".join(lines)


def _unmerged(rows: Any) -> str:
    remedy = "export it in inference mode" if rows.state == "dependent" else "give --samples"
    return f"servers will not merge its requests: {rows.reason}; {remedy} to change that"


def _output_kind(found: Any) -> str:
    if found.kind is None:
        known = ", ".join(OutputKind)
        return (
            f"output kind not declared: {found.reason}; the server decides from the outputs, unless you declare one "
            f"of {known} with --output-kind"
        )
    return f"output kind {found.kind}: {found.reason}"


def _figure(name: str, value: float) -> str:
    return f"{name.replace('_', ' ')} {value:{'.2%' if name == 'accuracy' else '.6g'}}"


def _against_float32(exported: Any) -> str:
    quantization = exported.card.quantization
    times = [f"{share:.2f} of its time in batches of {size}" for size, share in quantization.relative_time.items()]
    return (
        f"{quantization.precision}, against float32: "
        f"accuracy {exported.accuracy:.2%} instead of {quantization.float32_accuracy:.2%}, "
        f"{quantization.changed_labels:,} labels changed, {quantization.relative_bytes:.2f} of its size, "
        f"{', '.join(times)}"
    )
