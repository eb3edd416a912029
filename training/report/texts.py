"""The heading and explanation above each picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """Heading and explanation of a section."""

    heading: str
    """The section's heading."""
    reading: str
    """What the picture shows and how to read it, in one or two sentences."""


TEXTS = {
    "samples": Text("Samples", "Training images with their labels."),
    "class-counts": Text(
        "Class counts",
        "Number of samples per class. A class with few samples is learned worse and measured less reliably.",
    ),
    "training-curves": Text(
        "Training curves",
        "Loss and accuracy per epoch. If the validation curve turns while the training curve keeps improving, the "
        "model is overfitting.",
    ),
    "confusion-matrix": Text(
        "Confusion matrix",
        "Rows are true labels, columns are predictions; everything off the diagonal is wrong. The darker a cell, the "
        "larger its share of the row. A grey row has no samples.",
    ),
    "per-class": Text(
        "Each class",
        "Precision is the share of a class's predictions that are right, recall the share of its samples that are "
        "found, F1 their harmonic mean, each with its 95 % interval. Unlike accuracy, balanced accuracy counts small "
        "classes as much as large ones.",
    ),
    "errors": Text(
        "Errors",
        "Misclassified images, the most confident predictions first: the label, and after the arrow the prediction "
        "with its probability. Some show what the model has not learned, some are labelled wrongly.",
    ),
    "probabilities": Text(
        "Probabilities of one image",
        "The image with the least certain prediction: its two best classes are closest. Blue is the label, orange a "
        "prediction that differs from it.",
    ),
    "reliability": Text(
        "Reliability",
        "Whether probabilities can be trusted: of predictions with 80 % confidence, 80 % should be right. Below the "
        "dashed line the model is overconfident, above it underconfident. The expected calibration error is the mean "
        "distance from the line, weighted by the samples per bin, which the lower panel counts. A bin of fewer than 30 "
        "has no bar: its accuracy would be chance.",
    ),
    "plane": Text(
        "Fitted plane",
        "Each point is a sample; the line from it to the plane is its error. The least-squares plane minimises the sum "
        "of the squared errors.",
    ),
    "layers": Text(
        "Layers",
        "The network from input to output; N is the batch size. The number of parameters determines a model's size, "
        "not its speed: a layer's work also grows with the size of its output.",
    ),
}
"""By section, which is also its picture's file name, in page order."""
