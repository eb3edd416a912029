"""CONTRIBUTING.md's table "Where to add", compared with earlier additions."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = {
    cells[0]: (set(re.findall(r"`([\w*./]+/[\w*./]*|pyproject\.toml)`", cells[1] + cells[2])), cells[2])
    for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split(" | ")]) == 3 and "`" in line
}
# What names one of each kind in the code; None: a name that many files have to know.
SAMPLES = {
    "an RPC": r"SamplesRequest|Classifier/Samples",
    "a setting": r"decode_threads",
    "a metric": r"pixelserve_drift_stability_index",
    "an execution provider": r"\bimport Cuda\b|\bcuda_arena_shrink\b",
    "a picture format": r'\bavif\b|"AVIF"',
    "a recipe": r"fashion.softmax",
    "a data set": r"blood.fat",
    "a learner": r"\bLogisticRecipe\b|\blogistic\.(load|FILE|Logistic)\b",
    "a remedy against overfitting": r"\bl1\b",
    "a converter to ONNX": r"\bjax2onnx\b",
    "another runtime's format": r"ai[_-]edge[_-]litert",
    "a chart value": r"\bpodLabels\b",
}
_CODE = ("benchmarks", "deploy", "examples", "models", "pixelserve", "proto", "server", "training")
_SUFFIXES = {".html", ".js", ".json", ".proto", ".pbtxt", ".py", ".pyi", ".tpl", ".txt", ".yaml", ".yml"}


def files_with(pattern: str) -> set[str]:
    paths = [path for folder in _CODE for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES]
    return {
        path.relative_to(ROOT).as_posix()
        for path in [*paths, ROOT / "pyproject.toml"]
        if re.search(pattern, path.read_text(errors="ignore"))
    }


def covers(listed: str, file: str) -> bool:
    return file.startswith(listed) if listed.endswith("/") else Path(file).match(listed)


def test_every_row_has_a_sample() -> None:
    assert ROWS.keys() == SAMPLES.keys()


@pytest.mark.parametrize("kind", ROWS)
def test_the_files_of_a_row_exist_and_its_commands_are_targets(kind: str) -> None:
    paths, then = ROWS[kind]
    assert paths
    assert [path for path in paths if not list(ROOT.glob(path.rstrip("/")))] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", then)) <= targets
    assert [page for page in re.findall(r"docs/[\w-]+\.md", then) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("kind", [kind for kind, sample in SAMPLES.items() if sample])
def test_what_was_added_before_is_in_no_file_that_the_row_leaves_out(kind: str) -> None:
    paths, _ = ROWS[kind]
    touched = files_with(SAMPLES[kind] or "")
    assert touched
    assert {file for file in touched if not any(covers(path, file) for path in paths)} == set()
