"""Publishes a version only if it is better than the serving one; `measuring.challenge` decides."""

from pathlib import Path

from ..datasets import Dataset, hold_out
from ..errors import TargetExistsError, UsageError
from ..measuring.challenge import Decision, Unseen, challenge
from ..measuring.published import Published
from ..progress import say
from ..running import kept, runs
from ..runtime import OnnxModel
from .publish import Content, Slot, check_siblings, choose_slot, publish
from .samples import Samples


def held_out_samples(run: Path, settings: runs.Settings, dataset: Dataset, model: OnnxModel) -> Unseen:
    """Returns a run's held-out training samples.

    Raises:
        UsageError: the run held out none, or is not a classifier.
        SourceError: the run's samples are damaged.
    """
    if dataset.task == "regression":
        raise UsageError(f"--if-better compares classifiers, but {run} predicts values; omit the option")
    split = kept.read_held_out(run) if kept.are_in(run) else hold_out(dataset.train, settings.held_out)[1]
    if not len(split) and settings.chosen_by is not None:
        raise UsageError(
            f"--if-better: {run} is a final run, which learned all samples, so none is left to compare versions on; "
            f"compare the run that it was made from: pixelserve export {settings.chosen_by.run} --if-better"
        )
    if not len(split):
        raise UsageError(f"--if-better: {run} held out no samples to compare versions on; train with --hold-out 0.1")
    return Unseen(Samples({model.inputs[0].name: split.inputs}, split.targets), settings.held_out)


def labelled_samples(samples: Samples | None) -> Unseen:
    """Returns a file's samples.

    Raises:
        UsageError: the file has no samples or no labels.
    """
    if samples is None or samples.labels is None:
        raise UsageError("--if-better: give inputs x, their labels y and --labels, with --samples FILE.npz")
    return Unseen(samples, share=None)


def publish_if_better(
    slot: Slot, content: Content, candidate: Published, unseen: Unseen, *, is_chosen: bool
) -> tuple[Slot, Decision]:
    """Writes a version if it is better; returns its slot and the decision.

    Args:
        slot: the target.
        content: the files to write.
        candidate: the version to compare.
        unseen: the samples to compare on.
        is_chosen: whether the caller chose the version number; otherwise the next free one is used.

    Raises:
        TargetExistsError: the chosen version exists.
        UsageError: the versions cannot be compared.
    """
    while True:
        decision = challenge(candidate, unseen, slot.model_folder)
        if not decision.publish:
            return slot, decision
        try:
            publish(slot, content)
        except TargetExistsError:
            if is_chosen:
                raise
            # Published by another job, and possibly better than this one.
            say(f"version {slot.version} was published in the meantime; comparing again")
            slot = choose_slot(slot.repository, slot.model, None)
            check_siblings(slot, candidate.model, content.labels)
        else:
            return slot, decision
