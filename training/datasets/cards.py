"""Cards of the recipes' data sets: who made each, its licence, its source, and what it holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSetCard:
    """What to know of a data set before using it."""

    title: str
    """Its usual name."""
    holds: str
    """What a sample is, and its classes or values."""
    training: int
    """Samples in the training split."""
    test: int
    """Samples in the test split; 0: the training samples are measured."""
    authors: str
    """Who made it, with year."""
    source: str
    """Where it is published."""
    licence: str
    """Its licence, as far as its authors state one."""
    limits: str
    """What figures on it do not show."""


_TABLE = "part of this project"

CARDS: dict[str, DataSetCard] = {
    "mnist": DataSetCard(
        "MNIST",
        "28 × 28 grey images of handwritten digits, ten classes",
        *(60_000, 10_000),
        "Y. LeCun, C. Cortes and C. Burges, 1998",
        "https://yann.lecun.com/exdb/mnist/",
        "none stated by the authors; copies elsewhere are often labelled CC BY-SA 3.0",
        "scanned digits of US writers, centred and cleaned: photographed or drawn ones differ ([pictures.md]"
        "(pictures.md#drawn-and-photographed-digits))",
    ),
    "fashion-mnist": DataSetCard(
        "Fashion-MNIST",
        "28 × 28 grey images of articles of clothing, ten classes",
        *(60_000, 10_000),
        "H. Xiao, K. Rasul and R. Vollgraf (Zalando), 2017",
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT",
        "product photographs of one shop, on a black ground",
    ),
    "cifar10": DataSetCard(
        "CIFAR-10",
        "32 × 32 colour photographs of animals and vehicles, ten classes",
        *(50_000, 10_000),
        "A. Krizhevsky, V. Nair and G. Hinton, 2009",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "none stated; the authors ask to cite their report",
        "web photographs, some of whose test images nearly occur in the training split; the zoo's figures are of a "
        "copy that went through JPEG compression of quality 75",
    ),
    "iris": DataSetCard(
        "Iris",
        "four lengths of a flower in cm, three species",
        *(120, 30),
        "R. A. Fisher, 1936; measured by E. Anderson",
        "scikit-learn's `load_iris`",
        "CC BY 4.0 (UCI Machine Learning Repository)",
        "thirty test flowers: one is 3.3 points",
    ),
    "blood-fat": DataSetCard(
        "Blood fat",
        "age in years and weight in kg of a person, and their blood fat",
        *(25, 0),
        "H. Spaeth, *Mathematical Algorithms for Linear Regression*, 1991",
        "set x09 of J. Burkardt's collection REGRESSION",
        "LGPL (the collection's)",
        "25 people, measured on what was learned",
    ),
    "xor": DataSetCard(
        "XOR", "two truth values and their exclusive or", 4, 0, "–", _TABLE, "–", "the whole truth table"
    ),
    "and": DataSetCard(
        "AND", "two truth values and their conjunction", 4, 0, "–", _TABLE, "–", "the whole truth table"
    ),
}
"""The cards by data set."""


def table() -> str:
    """Returns the cards as a Markdown table."""
    head = ("data set", "holds", "training", "test", "authors", "source", "licence", "what figures do not show")
    rows = [
        (
            *(
                f"{card.title} (`{name}`)",
                card.holds,
                f"{card.training:,}",
                f"{card.test:,}" if card.test else "the same",
            ),
            *(card.authors, card.source, card.licence, card.limits),
        )
        for name, card in CARDS.items()
    ]
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
