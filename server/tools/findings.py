"""The findings in a repository, by model and as a whole."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One problem."""

    severity: Literal["error", "warning"]
    """error: it prevents serving something; warning: it does not."""
    path: Path
    """The file or folder."""
    line: int | None
    """The line in the file, from 1, or None."""
    problem: str
    """What was expected, what was found, and what to do."""
    write: str = ""
    """The exact text to write there, or empty."""


@dataclass
class Model:
    """The findings in a model's folder."""

    name: str
    """The model's name; empty for the repository as a whole."""
    findings: list[Finding] = field(default_factory=list)
    """All problems, in the order found."""
    versions: dict[int, str] = field(default_factory=dict)
    """One sentence of evidence for each version that would serve."""

    @property
    def would_serve(self) -> bool:
        """Whether everything in its version policy would be served."""
        return not any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class Report:
    """The findings in a repository."""

    models: tuple[Model, ...]
    """The repository as a whole, if it has findings, then each model by name."""

    @property
    def findings(self) -> list[Finding]:
        """All problems."""
        return [finding for model in self.models for finding in model.findings]

    @property
    def would_serve(self) -> bool:
        """Whether a server would start and serve all of this repository."""
        return all(model.would_serve for model in self.models)
