"""docs/course: each page runs in its small size, and what its command compares."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
COURSE = ROOT / "docs" / "course"
PAGES = sorted(COURSE.glob("[0-9]*.md"))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """docs/course/run.py, in the small size, with the committed samples of the data sets."""
    monkeypatch.syspath_prepend(str(COURSE))
    monkeypatch.setenv("PIXELSERVE_COURSE_SMALL", "1")
    monkeypatch.setenv("PIXELSERVE_DATA_DIR", str(ROOT / "tests" / "data" / "tiny"))
    import run

    yield run
    # Other tests may have modules of these names.
    for name in ("run", "course"):
        sys.modules.pop(name, None)


def files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in COURSE.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.slow
# On a machine that trains something else, page 5 took nine minutes.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_and_leaves_no_files(
    runner: ModuleType, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files()
    printed = runner.run(page)
    assert files() == before
    assert not os.listdir(tmp_path)  # noqa: PTH208
    # The same blocks print something in both sizes.
    shown = [block.shown for block in runner.blocks(page.read_text())]
    assert [bool(text) for text in printed] == [bool(text) for text in shown]


def test_the_course_has_five_pages_and_an_index_of_them() -> None:
    assert [page.name[0] for page in PAGES] == list("12345")
    index = (COURSE / "README.md").read_text()
    assert [page.name for page in PAGES] == re.findall(r"^\| \[.*?\]\((.*?)\)", index, re.MULTILINE)


def test_the_pictures_are_those_that_the_pages_show_and_save() -> None:
    texts = "".join(page.read_text() for page in PAGES)
    pictures = sorted(path.name for path in (COURSE / "pictures").iterdir())
    assert pictures == sorted(re.findall(r"^!\[.+\]\(pictures/(.+)\)$", texts, re.MULTILINE))
    assert pictures == sorted(f"{name}.png" for name in re.findall(r'^save\("(.+)"\)$', texts, re.MULTILINE))
    assert sum(path.stat().st_size for path in (COURSE / "pictures").iterdir()) < 600_000


PAGE = """Text.

```python
print("mean", 0.5)
```

```text
mean 0.51
```

```python
x = 1
```

```bash
pixelserve health
```

```python
print(x, y)
```
"""


def test_blocks_know_their_line_and_the_output_after_them(runner: ModuleType) -> None:
    found = [(block.line, block.code, block.shown) for block in runner.blocks(PAGE)]
    assert found == [
        (4, 'print("mean", 0.5)\n', "mean 0.51\n"),
        (12, "x = 1\n", ""),
        (20, "print(x, y)\n", ""),
    ]


def test_output_is_written_after_its_block_and_removed_from_a_silent_one(runner: ModuleType) -> None:
    new = runner.written(PAGE, ["mean 0.5\n", "", "1 2\n"])
    assert [block.shown for block in runner.blocks(new)] == ["mean 0.5\n", "", "1 2\n"]
    assert runner.written(new, ["mean 0.51\n", "", ""]) == PAGE


def test_an_error_names_the_line_of_the_page(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "prepare", lambda: None)
    (tmp_path / "9-page.md").write_text(PAGE)
    with pytest.raises(NameError) as caught:
        runner.run(tmp_path / "9-page.md")
    assert (caught.traceback[-1].path.name, caught.traceback[-1].lineno + 1) == ("9-page.md", 20)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("held out 84.1%", "held out 84.9%", True),
        ("held out 84.1%", "held out 74.1%", False),
        ("loss  2.31e-05 of 1,000", "loss 2.35e-05 of 1,000", True),
        ("loss 2.31e-05", "loss 2.31e-04", False),
        ("difference 0.0001", "difference 0.0003", True),
        ("difference 0.0000", "difference 0.0018", False),
        ("1,000 pictures", "1,001 pictures", False),
        ("a cat", "a dog", False),
        ("1 and 2", "1", False),
    ],
)
def test_words_and_whole_numbers_must_be_equal_and_others_nearly(
    runner: ModuleType, shown: str, printed: str, same: bool
) -> None:
    assert runner.agree(shown, printed) == same


def test_a_page_that_prints_something_else_ends_the_command_with_1(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1-page.md").write_text(PAGE.replace("x, y", "x").replace("0.51", "0.93"))
    monkeypatch.setattr(runner, "prepare", lambda: None)
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "1"])
    assert runner.main() == 1
    out = capsys.readouterr().out
    assert "1-page.md, line 4: the page shows\nmean 0.93\nbut it prints\nmean 0.5\n" in out
    monkeypatch.setattr(sys, "argv", ["run.py", "--write"])
    assert runner.main() == 0
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert runner.main() == 0
