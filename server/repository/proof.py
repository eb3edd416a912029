"""Verifies a session before it serves: that it is the card's model, and that its rows may share a run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pixelserve.card import CARD_FILE, GOLDEN_FILE, Card, CardError
from pixelserve.golden import Golden, GoldenMismatchError, Tensors, replay, replay_by_rule
from pixelserve.precisions import RULES, lowered_precision
from pixelserve.rows import ROWS, Input, RowProof, distinct_rows, made_up_rows, prove_rows

from ..engine.policy import BatchingPolicy
from ..engine.providers import provider_at
from ..engine.session import Session
from ..engine.tensors import BY_NAME, Array, TensorSpec
from ..errors import InvalidRequest, RepositoryError
from .evidence import Evidence, VersionFiles, about, samples_of
from .opening import Opener
from .reference import compare_with_reference
from .warmup import Warmup

_FLOAT = BY_NAME["FP32"].dtype


@dataclass(frozen=True)
class Proof:
    """What was verified of a session."""

    evidence: Evidence
    """The model's origin, and whether it reproduces its golden samples."""
    rows: RowProof
    """Whether requests of different callers may share a run."""
    inputs: Tensors | None
    """Inputs that it computed: [rows, ...], or one whole set for a model without a batch dimension; or None."""


@dataclass(frozen=True)
class Prover:
    """Verifies the sessions of one version, including those opened later."""

    files: VersionFiles
    """The files beside the model."""
    policy: BatchingPolicy
    """How its requests are batched."""
    warmups: Sequence[Warmup]
    """The requests of config.pbtxt's model_warmup."""
    padded: int = 0
    """The rows that a batch is padded to; 0: none."""
    opener: Opener | None = None
    """Opens the model with ONNX Runtime, for comparison if there are no golden samples; None: nothing is compared."""

    def prove(self, session: Session) -> Proof:
        """Verifies a session, with the same checks for the first and for those opened later.

        Raises:
            RepositoryError: the session does not reproduce what it must.
        """
        proof = self._prove(session)
        if self.files.golden is None and self.opener is not None and proof.inputs is not None:
            compare_with_reference(self.opener, session, proof.inputs, self.policy.max_batch_size)
        return proof

    def _prove(self, session: Session) -> Proof:
        card, golden = self.files.card, self.files.golden
        if golden is not None:
            golden = _seen_from_outside(golden, session, batches=self.policy.max_batch_size > 0)
        evidence, fault = self._replay(session, card, golden)
        self._warm_up(session)
        known = self._known_rows(golden)
        if not self.policy.max_batch_size:
            rows = RowProof("single", "the tensors have no batch dimension")
            return Proof(evidence, rows, known if known is not None else _made_up_whole(session))
        precision = _precision(card, session)
        floor = max(provider_at(session.provider).row_tolerance, _mixed_tolerance(session))

        def prove(inputs: Tensors) -> RowProof:
            if self.policy.max_batch_size == 1:
                _computer(session)(inputs)
                return RowProof("single", "max_batch_size is 1")
            return prove_rows(_computer(session), inputs, precision=precision, floor=floor, padded=self.padded)

        rows, inputs = self._prove_rows(session, known, prove)
        return Proof(evidence, RowProof("dependent", fault) if fault and rows.allows_merging else rows, inputs)

    def _replay(self, session: Session, card: Card | None, golden: Golden | None) -> tuple[Evidence, str]:
        """Returns the evidence from the golden samples, and why rows must not share a run (empty if they may)."""
        if card is None:
            return Evidence(None, False, f"unverified: no {CARD_FILE}"), ""
        if golden is None:
            return Evidence(card, False, f"unverified: no {GOLDEN_FILE} to replay"), ""
        rows = self.policy.max_batch_size
        sizes = {"one by one": min(rows, 1), "together": rows} if rows > 1 and golden.samples > 1 else {"": rows}
        errors: dict[str, float] = {}
        faults: list[GoldenMismatchError] = []
        with about(self.files.version / GOLDEN_FILE):
            for how, size in sizes.items():
                try:
                    errors[how] = _compare(golden, in_batches(session, size), card, session)
                except GoldenMismatchError as mismatch:
                    faults.append(mismatch)
            if not errors:
                raise faults[-1]
        worst = max(errors.values())
        fault = "" if not faults else f"the golden samples hold {next(iter(errors))} only ({faults[0]})"
        summary = f"verified: {golden.samples} golden samples reproduced, largest difference {worst:.2g}"
        return Evidence(card, True, summary, samples_of(golden)), fault

    def _warm_up(self, session: Session) -> None:
        for warmup in self.warmups:
            try:
                for _ in range(warmup.count):
                    session.run(warmup.inputs)
            except Exception as error:
                problem = f'the model cannot run model_warmup "{warmup.name}" of its config.pbtxt: {error}'
                raise RepositoryError(problem, path=self.files.model) from error

    def _known_rows(self, golden: Golden | None) -> Tensors | None:
        """Returns inputs that the model can compute: its golden samples, else those of its warm-up."""
        if golden is not None:
            whole = {name: array[0] for name, array in golden.inputs.items()}
            return distinct_rows(golden.inputs) if self.policy.max_batch_size else whole
        for warmup in self.warmups:
            return distinct_rows(warmup.inputs) if self.policy.max_batch_size else warmup.inputs
        return None

    def _prove_rows(
        self, session: Session, known: Tensors | None, prove: Callable[[Tensors], RowProof]
    ) -> tuple[RowProof, Tensors | None]:
        """Tries known rows, and made-up ones if those are too alike to prove anything."""
        most = min(ROWS, self.policy.max_batch_size)
        if known is not None and len(next(iter(known.values()))) >= min(2, most):
            return prove({name: array[:most] for name, array in known.items()}), known
        reason = "its inputs are too large to make values up for them"
        for inputs in _made_up(session.inputs, most):
            try:
                return prove(inputs), known if known is not None else inputs
            except Exception as error:  # noqa: BLE001  a model may reject made-up values
                reason = f"it cannot compute made-up values ({_sentence(error)})"
        return RowProof("unproven", reason), known


def _seen_from_outside(golden: Golden, session: Session, *, batches: bool) -> Golden:
    """Returns golden samples with their outputs reshaped to what clients see."""

    def leave(name: str, array: Array) -> Array:
        return session.leave(name, array) if batches else np.stack([session.leave(name, sample) for sample in array])

    return Golden(golden.inputs, {name: leave(name, array) for name, array in golden.outputs.items()})


def in_batches(session: Session, max_batch_size: int) -> Callable[[Tensors], Tensors]:
    """Returns a function that computes any number of samples, in runs of at most `max_batch_size`.

    It maps tensors by name to tensors by name, with samples along the first axis even if the model has no batch
    dimension. It raises CardError if the inputs are not the model's or cannot be computed.
    """

    def run_some(inputs: Tensors, start: int) -> dict[str, Array]:
        if max_batch_size:
            return session.run({name: array[start : start + max_batch_size] for name, array in inputs.items()})
        outputs = session.run({name: array[start] for name, array in inputs.items()})
        return {name: array[np.newaxis] for name, array in outputs.items()}

    def infer(inputs: Tensors) -> Tensors:
        known = {spec.name for spec in session.inputs}
        if set(inputs) != known:
            raise CardError(f"golden inputs are {sorted(inputs)}, the model's are {sorted(known)}; export it again")
        samples = len(next(iter(inputs.values())))
        try:
            parts = [run_some(inputs, start) for start in range(0, samples, max_batch_size or 1)]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        except Exception as error:
            raise CardError(f"the model cannot run its golden inputs: {error}; export it again") from error

    return infer


def _computer(session: Session) -> Callable[[Tensors], Tensors]:
    """Returns a function that runs a session and widens bfloat16 outputs to float32."""
    bits = {spec.name for spec in session.outputs if spec.datatype.name == "BF16"}

    def infer(inputs: Tensors) -> Tensors:
        outputs = session.run(inputs)
        return {name: _widened(array) if name in bits else array for name, array in outputs.items()}

    return infer


def _widened(bits: Array) -> Array:
    """Returns bfloat16 bits as float32, whose upper half they are."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _made_up(specs: Sequence[TensorSpec], rows: int) -> Iterator[dict[str, Array]]:
    is_bits = {spec.name: spec.datatype.name == "BF16" for spec in specs}
    wanted = {
        spec.name: Input(_FLOAT if is_bits[spec.name] else spec.datatype.dtype, spec.shape or (rows,)) for spec in specs
    }
    for made in made_up_rows(wanted, rows):
        yield {
            name: (array.view(np.uint32) >> 16).astype(np.uint16) if is_bits[name] else array
            for name, array in made.items()
        }


def _made_up_whole(session: Session) -> Tensors | None:
    """Returns made-up inputs that a model without a batch dimension computes, or None."""
    for made in _made_up([_with_row(spec) for spec in session.inputs], 1):
        inputs = {name: array[0] for name, array in made.items()}
        try:
            session.run(inputs)
        except Exception:  # noqa: BLE001, S112  a model may reject made-up values
            continue
        return inputs
    return None


def _with_row(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.datatype, (1, *spec.shape))


def _compare(golden: Golden, infer: Callable[[Tensors], Tensors], card: Card, session: Session) -> float:
    """Replays golden samples by the card's tolerance, or by the rule of a precision that is not the file's.

    Returns:
        The largest difference, in the units of the output or, by a rule, of its largest magnitude.
    """
    lowered = lowered_precision(session.precisions)
    if lowered is None:
        return replay(golden, infer, card.tolerance(session.provider))
    return replay_by_rule(golden, infer, lowered)


def _precision(card: Card | None, session: Session) -> str | None:
    """Returns what a session computes in; None if it is the precision of the outputs."""
    named = [entry.precision for entry in card.parity if entry.provider == session.provider] if card else []
    if card is not None and card.quantization is not None:
        named.append(card.quantization.precision)
    found = lowered_precision((*session.precisions, *named))
    return found if found is not None else next((each for each in named if each != "float32"), None)


def _mixed_tolerance(session: Session) -> float:
    """Returns by how much a row alone may differ from the same in a batch because another engine computes it."""
    lowered = lowered_precision(session.precisions)
    return RULES[lowered].output if lowered is not None and len(set(session.precisions)) > 1 else 0.0


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if isinstance(error, InvalidRequest) else text[:200]
