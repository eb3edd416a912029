"""Generates the parts of the chart that have their source elsewhere.

    python -m deploy.helm.document            writes
    python -m deploy.helm.document --check    exits with 1 and names outdated files

The values table of README.md comes from the comments in values.yaml, files/ from deploy/prometheus and deploy/grafana,
and the names that server.settings may have in values.schema.json from the server's settings.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixelserve_server.settings import Settings

DEPLOY = Path(__file__).resolve().parent.parent
CHART = DEPLOY / "helm" / "pixelserve"
COPIES = {
    CHART / "files" / "rules.yml": DEPLOY / "prometheus" / "rules.yml",
    CHART / "files" / "dashboard.json": DEPLOY / "grafana" / "dashboard.json",
}
BEGIN, END = "<!-- values: written by `make chart-docs` -->\n", "<!-- end of values -->\n"
# Set by other values of the chart, or unusable in its pods.
CHART_SETS = {
    *("host", "http_port", "grpc_port", "metrics_port", "model_repository", "config", "print_config", "instance"),
    *("tls_cert", "tls_key", "tls_client_ca", "metrics_tls", "tokens", "insecure", "system_shared_memory"),
    *("device", "device_id", "require_gpu", "drain_settle_s", "grace_s", "max_connection_age_s"),
}


class DocumentError(ValueError):
    """values.yaml or README.md cannot be read; the message says where and what was expected."""


@dataclass(frozen=True)
class Value:
    """One key of values.yaml."""

    path: str
    """The dotted name."""
    default: str | None
    """The value as written; None for a group of values."""
    meaning: str
    """The comment above the key, on one line."""


def values(text: str) -> Iterator[Value]:
    """Yields the keys of a values.yaml, each with the comment directly above it.

    Lists and maps without fixed keys must be on one line, as in {a: 1}.

    Raises:
        DocumentError: a key has no comment, or a line is neither a comment nor a key.
    """
    groups: list[str] = []
    comment: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content.startswith("#"):
            comment.append(content.lstrip("# "))
        elif not content:
            comment = []
        else:
            key, colon, default = content.partition(":")
            depth = (len(line) - len(line.lstrip())) // 2
            if not colon or depth > len(groups):
                raise DocumentError(f'values.yaml, line {number}: "{content}" is not a key; expected KEY: VALUE')
            if not comment:
                raise DocumentError(f"values.yaml, line {number}: {key} has no comment directly above it; add one")
            groups = [*groups[:depth], key]
            yield Value(".".join(groups), default.strip() or None, " ".join(comment))
            comment = []


def table(text: str) -> str:
    """Returns the Markdown table of a values.yaml, with groups in bold."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values(text):
        name = f"**{value.path}**" if value.default is None else f"`{value.path}`"
        default = "" if value.default is None else f"`{_cell(value.default)}`"
        rows.append(f"| {name} | {default} | {_cell(value.meaning)} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def readme(text: str, default_values: str) -> str:
    """Returns README.md with the table of these values between its markers.

    Raises:
        DocumentError: a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DocumentError(f"README.md: expected the lines {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + table(default_values) + END + after


def schema(text: str) -> str:
    """Returns values.schema.json with the allowed names of server.settings."""
    read = json.loads(text)
    settings = read["properties"]["server"]["properties"]["settings"]
    settings["propertyNames"] = {"enum": sorted(set(Settings.model_fields) - CHART_SETS)}
    return json.dumps(read, indent=2, ensure_ascii=False) + "\n"


def documents() -> Mapping[Path, str]:
    """Returns the expected content of each generated file."""
    page, described = CHART / "README.md", CHART / "values.schema.json"
    return {
        page: readme(page.read_text(), (CHART / "values.yaml").read_text()),
        described: schema(described.read_text()),
        **{copy: source.read_text() for copy, source in COPIES.items()},
    }


def main() -> None:
    """Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    only_check = parser.parse_args().check
    stale = {path: text for path, text in documents().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        if not only_check:
            path.write_text(text)
        print(f"{path.relative_to(DEPLOY.parent)}: {'out of date; run `make chart-docs`' if only_check else 'written'}")
    sys.exit(only_check and bool(stale))


if __name__ == "__main__":
    main()
