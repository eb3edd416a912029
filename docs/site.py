"""Hooks of mkdocs.yml: the repository's pages at their own paths, so that relative links hold on the site too."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/index.md"
PAGES = ("*.md", "docs/**/*.md", "deploy/**/*.md", "benchmarks/README.md")
ASSETS = ("docs/pictures/*.png", "docs/pictures/*.svg", "docs/course/pictures/*.png")
# Code hosts begin a list right after a paragraph, Python-Markdown only after an empty line.
LIST_AFTER_TEXT = re.compile(r"^(?![-#|>\s]|\d+\.)(.+\n)(?=- )", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!#|\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Sets the menu: the headings of docs/index.md, with the links below each."""
    _, *sections = re.split(r"^## ", (ROOT / INDEX).read_text(encoding="utf-8"), flags=re.MULTILINE)
    config.nav = [{"Documentation": INDEX}]
    for section in sections:
        heading, links = section.splitlines()[0], LINK.findall(section)
        config.nav.append({heading: [{text: resolve(INDEX, target)} for text, target, _ in links]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Replaces the files of docs/ by the repository's pages, the pictures, and other files that the pages link."""
    found = {path.relative_to(ROOT).as_posix() for glob in (*PAGES, *ASSETS) for path in ROOT.glob(glob)}
    for page in [path for path in found if path.endswith(".md")]:
        linked = {resolve(page, target) for _, target, _ in LINK.findall((ROOT / page).read_text(encoding="utf-8"))}
        found |= {path for path in linked if (ROOT / path).is_file()}
    theme = [file for file in files if Path(config.docs_dir) not in Path(file.abs_src_path or "").parents]
    ours = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in sorted(found)]
    return Files([*theme, *ours])


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Separates lists from text, and leads links to folders to their README.md; without one, a link becomes text."""

    def lead(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        folder = ROOT / resolve(page.file.src_uri, target)
        if not folder.is_dir():
            return link[0]
        readme = posixpath.join(target, "README.md")
        return f"[{text}]({readme}{anchor})" if (folder / "README.md").is_file() else text

    return LINK.sub(lead, LIST_AFTER_TEXT.sub(r"\1\n", markdown))


def resolve(page: str, target: str) -> str:
    """Returns a link's target as a path from the repository's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
