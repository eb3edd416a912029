"""The heading and explanation above each picture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The words of one section."""

    heading: str
    """The section's heading."""
    reading: str
    """What the picture shows and how to read it, in a sentence or two."""


TEXTS = {
    "samples": Text("Samples", "Images that the model learned from, with their labels."),
    "class-counts": Text(
        "Class counts",
        "How many samples each class has. A class with few samples is learned worse, and measured less surely.",
    ),
    "training-curves": Text(
        "Training curves",
        "Loss and accuracy of each epoch. Where the validation curve turns while the training curve goes on, the model "
        "begins to learn the training split by heart.",
    ),
    "confusion-matrix": Text(
        "Confusion matrix",
        "A row is what the samples are, a column what they were taken for; what is not on the diagonal is wrong. The "
        "darker a field, the larger its share of the row. A grey row has no samples.",
    ),
    "errors": Text(
        "Errors",
        "Wrongly classified images, those first that the model was surest about: the label, and after the arrow the "
        "prediction with its probability. Some show what the model has not learned, some that a label is wrong.",
    ),
    "probabilities": Text(
        "Probabilities of one image",
        "The image that the model was most in doubt about: its two best classes are closest. Blue is the label, orange "
        "the prediction where it is another.",
    ),
    "reliability": Text(
        "Reliability",
        "Whether probabilities can be trusted: of predictions made with 80 % confidence, 80 % should be right. Below "
        "the dashed line the model is too sure, above it not sure enough. The expected calibration error is the mean "
        "distance from the line, weighted by the samples in each bin, which the lower panel shows.",
    ),
    "plane": Text(
        "Fitted plane",
        "Each point is a sample, and the line from it to the plane its error. Least squares is the plane for which the "
        "sum of the squared errors is smallest.",
    ),
    "layers": Text(
        "Layers",
        "The network from input to output; N is the number of rows in a batch. Parameters make a model large, not "
        "slow: a layer's work also grows with the size of its output.",
    ),
}
"""By section, which is also its picture's file name; in the page's order."""
