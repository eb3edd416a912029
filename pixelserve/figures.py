"""The figures of a card, measured on the exported file."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

CONFUSION_LABELS = 64
"""Maximum labels of a confusion matrix: more fit neither on a screen nor into answers that list every card."""
SUREST_ERRORS = 16
"""Maximum errors in a card."""
ERROR_PICTURE_CHARACTERS = 4096
"""Maximum base64 characters of an error's picture: sixteen stay far below a card's limit."""

Count = Annotated[int, Field(ge=0)]
"""A count."""


class Part(BaseModel):
    """An immutable part of a card."""

    # A field of a newer minor revision is no reason to refuse a model.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Confusion(Part):
    """A confusion matrix."""

    labels: list[str] = Field(
        description="the classes in index order, of rows and columns", max_length=CONFUSION_LABELS
    )
    counts: list[list[Count]] = Field(description="samples by true label (row) and predicted label (column)")

    @model_validator(mode="after")
    def _is_square(self) -> "Confusion":
        classes = len(self.labels)
        if [len(row) for row in self.counts] != [classes] * classes:
            raise ValueError(f"counts must have {classes} rows of {classes}, one for each label")
        return self


class SurestError(Part):
    """A misclassified sample."""

    sample: Count = Field(description="its index in the split, from 0")
    label: str = Field(description="what it is")
    predicted: str = Field(description="what was predicted")
    probability: float | None = Field(
        default=None, description="of the prediction, a fraction of 1; None: its scores are not probabilities"
    )
    picture: str | None = Field(
        default=None,
        description="its pixels, reduced to 32 a side: PNG or JPEG, in base64; None: not a picture",
        max_length=ERROR_PICTURE_CHARACTERS,
        pattern="^[A-Za-z0-9+/]*={0,2}$",
    )


class ClassFigures(Part):
    """Figures of a class, fractions of 1; None: it has no samples or no predictions."""

    precision: float | None = Field(default=None, description="share of its predictions that are right")
    precision_interval: tuple[float, float] | None = Field(default=None, description="Wilson's 95 % interval")
    recall_interval: tuple[float, float] | None = Field(default=None, description="Wilson's 95 % interval")
    f1: float | None = Field(default=None, description="harmonic mean of precision and recall")
    f1_interval: tuple[float, float] | None = Field(default=None, description="95 % interval by bootstrap")


class ChoiceRun(Part):
    """The training run that chose the settings of an exported model, which then learned the held-out samples too."""

    run: str = Field(description="the name of its folder")
    seed: int = Field(description="its seed")


class Evaluation(Part):
    """Figures of the exported file, measured with ONNX Runtime; or of other networks, if it learned all samples."""

    split: str = Field(description="the split measured on, such as test")
    samples: int = Field(description="how many samples that is", ge=1)
    metrics: dict[str, float] = Field(description="figure by name; accuracy is a fraction of 1")
    per_class_recall: dict[str, float] = Field(default_factory=dict, description="recall by label, a fraction of 1")
    per_class_samples: dict[str, Count] = Field(
        default_factory=dict, description="samples by true label; empty: an older card"
    )
    per_class: dict[str, ClassFigures] = Field(
        default_factory=dict, description="precision and F1 by label; empty: too many classes, or an older card"
    )
    balanced_accuracy: float | None = Field(
        default=None, description="mean recall of the classes, a fraction of 1; None: as for per_class"
    )
    balanced_accuracy_interval: tuple[float, float] | None = Field(
        default=None, description="its 95 % interval by bootstrap"
    )
    confusion: Confusion | None = Field(default=None, description="None: no classes, too many, or an older card")
    choice_run: ChoiceRun | None = Field(
        default=None,
        description="the run whose network has these figures: of the same settings, but it did not learn these "
        "samples, as the exported one did; None: the exported file itself, or the folds of a cross-validation",
    )
    surest_errors: list[SurestError] = Field(
        default_factory=list,
        description="the wrong predictions of the highest scores, highest first",
        max_length=SUREST_ERRORS,
    )


class ReliabilityBin(Part):
    """The predictions whose probabilities are in one bin."""

    samples: Count = Field(description="how many there are")
    confidence: float | None = Field(default=None, description="their mean probability; None: there are none")
    accuracy: float | None = Field(default=None, description="the share of right ones; None: there are none")


class Calibration(Part):
    """The gap between confidence and accuracy (Guo et al. 2017, equal-width bins of the highest probability)."""

    expected_calibration_error: float = Field(description="ECE, a fraction of 1")
    bins: int = Field(ge=1)
    temperature: float | None = Field(default=None, description="what the logits were divided by; None: nothing")
    uncalibrated_error: float | None = Field(default=None, description="ECE without the temperature, same samples")
    reliability: list[ReliabilityBin] = Field(
        default_factory=list, description="each bin, from probability 0 to 1; empty: an older card"
    )


class Baseline(Part):
    """The distribution of predictions on held-out data, as the baseline for drift."""

    predicted_classes: dict[str, float] = Field(description="share of each predicted label, a fraction of 1")
    confidence: list[float] = Field(description="share of samples in each of equal-width bins of the top probability")
