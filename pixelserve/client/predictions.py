"""What a model says about a picture."""

from collections.abc import Iterable
from dataclasses import dataclass

from pixelserve.v1 import classifier_pb2 as pb

from .errors import PictureError


@dataclass(frozen=True)
class Class:
    """One of a model's classes, and how probable it is."""

    label: str
    """The class's name; its index as text where the model has no labels."""
    index: int
    """Its index in the model's output."""
    probability: float
    """Its probability, 0 to 1."""


@dataclass(frozen=True)
class Prediction:
    """What a model says about one picture, or why it cannot say anything.

    Example:
        >>> with Client("127.0.0.1:8001") as client:
        ...     prediction = client.classify("seven.png", model="mnist-cnn", top_k=2)
        >>> prediction.label, round(prediction.probability, 2)
        ('7', 0.75)
        >>> [each.label for each in prediction.classes]
        ['7', '1']
        >>> prediction.version
        '1'
    """

    classes: tuple[Class, ...]
    """The best classes, best first; empty where there is an error."""
    error: str
    """What was wrong with the picture; empty where nothing was."""
    model: str
    """The model that answered."""
    version: str
    """The version that answered; empty where the picture could not even be sent."""
    source: str | None
    """The picture's path as it was given; None where it did not come from a file."""

    @property
    def label(self) -> str:
        """The best class's label.

        Raises:
            PictureError: the picture could not be read.
        """
        return self.best.label

    @property
    def probability(self) -> float:
        """The best class's probability, 0 to 1.

        Raises:
            PictureError: the picture could not be read.
        """
        return self.best.probability

    @property
    def best(self) -> Class:
        """The most probable class.

        Raises:
            PictureError: the picture could not be read.
        """
        if self.error or not self.classes:
            raise PictureError(self.error or "the server gave no class", self.source)
        return self.classes[0]


def classes_of(classes: Iterable[pb.Class]) -> tuple[Class, ...]:
    """Converts classes from a message."""
    return tuple(Class(each.label, each.index, each.probability) for each in classes)
