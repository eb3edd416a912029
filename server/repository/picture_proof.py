"""Verifies that a version still prepares pictures as it did at export."""

from dataclasses import replace

from pixelserve.card import CARD_FILE, GOLDEN_PICTURE_FILE
from pixelserve.imaging.declaration import parse
from pixelserve.imaging.golden import replay
from pixelserve.imaging.spec import PictureSpec
from pixelserve.imaging.words import DeclarationError

from ..errors import RepositoryError
from .config import ModelConfig
from .evidence import Evidence, VersionFiles, about
from .picture import Graph, picture_input


def prove_pictures(files: VersionFiles, config: ModelConfig, evidence: Evidence) -> Evidence:
    """Replays a version's golden picture; returns the updated evidence.

    A different result prevents loading, as with golden samples: this installation is at fault. An edited declaration
    does not: config.pbtxt belongs to its owner, is shared by all versions, and may be a correction. The version is then
    unverified, because its card was measured on other pictures. The golden picture is replayed as the card declares
    it, so an edit hides nothing.

    Raises:
        RepositoryError: the result differs from the export, or the card or the picture is damaged.
    """
    card = files.card
    if card is None or card.picture is None:
        return evidence
    is_edited = str(config.pictures) != card.picture
    exported = _exported(files, config, card.picture) if is_edited or config.pictures is None else config.pictures
    if files.picture is not None:
        with about(files.version / GOLDEN_PICTURE_FILE):
            replay(files.picture, exported)
        evidence = replace(evidence, summary=f"{evidence.summary}; golden picture reproduced")
    if config.pictures is None or not is_edited:
        return evidence
    return replace(evidence, verified=False, summary=f"unverified: {_edited(str(config.pictures), card.picture)}")


def _exported(files: VersionFiles, config: ModelConfig, line: str) -> PictureSpec:
    """Returns the card's declaration of pictures."""
    taken = picture_input(Graph(config.inputs, config.outputs, config.batching.max_batch_size > 0))
    try:
        if taken is None:
            raise DeclarationError(f"the model has {len(config.inputs)} inputs; pictures are for models with one")
        return parse(line, taken)
    except DeclarationError as error:
        problem = f'picture: "{line}": {error.problem}; export the model again'
        raise RepositoryError(problem, path=files.version / CARD_FILE) from error


def _edited(declared: str, exported: str) -> str:
    now, then = declared.split(), exported.split()
    added = " ".join(word for word in now if word not in then) or "less"
    gone = " ".join(word for word in then if word not in now) or "less"
    return (
        f"config.pbtxt declares other pictures than at export ({added} instead of {gone}), so the card's figures do "
        f"not hold for them; restore the parameter picture, or export the model again"
    )
