"""What is found wrong in a repository: each thing, by model, and as a whole."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: Literal["error", "warning"]
    """error: something is not served for it; warning: it is served all the same."""
    path: Path
    """The file or folder."""
    line: int | None
    """The line in it, from 1; None: it is about no line."""
    problem: str
    """What was expected, what is there, and what to do."""
    write: str = ""
    """The exact text to write there; empty: there is none to propose."""


@dataclass
class Model:
    """What was found in a model's folder."""

    name: str
    """The model's name; empty: it is the repository as a whole."""
    findings: list[Finding] = field(default_factory=list)
    """All that is wrong, in the order in which it was found."""
    versions: dict[int, str] = field(default_factory=dict)
    """What speaks for each version that would serve, in one sentence."""

    @property
    def would_serve(self) -> bool:
        """Whether all of it would be served that its version policy names."""
        return not any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class Report:
    """What was found in a repository."""

    models: tuple[Model, ...]
    """The repository as a whole, where there is anything to say of it, then each model by name."""

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong."""
        return [finding for model in self.models for finding in model.findings]

    @property
    def would_serve(self) -> bool:
        """Whether a server would start on this repository, and serve all of it."""
        return all(model.would_serve for model in self.models)
