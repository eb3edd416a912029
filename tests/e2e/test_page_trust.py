"""The view Trust in a real browser: the card's contents, and omissions for older or larger cards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from page_visits import AXE, IN_A_BROWSER, pick, violations, visit

from pixelserve.card import Card, sha256_of
from pixelserve_training.measuring.evaluate import measure

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = IN_A_BROWSER
ROWS = """
const rows = [...document.querySelectorAll(`${a} tbody tr`)];
return rows.map((row) => [...row.children].map((cell) => cell.innerText.trim()));
"""


@pytest.fixture(scope="module")
def http(
    start_module_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, model_writer: Callable[..., Path]
) -> str:
    """The URL of a server on mnist-cnn, cifar10, and others.

    `older` has a card of an older export, `many` one of 40 classes, `doubler` none.
    """
    repository = tmp_path_factory.mktemp("repository")
    for name in ("mnist-cnn", "cifar10"):
        (repository / name).symlink_to(ROOT / "models" / name)
    model_writer(repository / "doubler" / "1" / "model.onnx")
    version = repository / "older" / "1"
    version.mkdir(parents=True)
    for name in ("labels.txt", "1/model.onnx", "1/golden.npz"):
        (repository / "older" / name).symlink_to(ROOT / "models" / "mnist-cnn" / name)
    card = card_of("mnist-cnn")
    for name in ("per_class_samples", "confusion", "surest_errors"):
        del card["evaluation"][name]
    del card["calibration"]["reliability"]
    (version / "card.json").write_text(json.dumps(card))
    many = model_writer(repository / "many" / "1" / "model.onnx")
    labels = [f"kind {number}" for number in range(40)]
    scores = np.eye(40)
    # Kind 7 is the only one that is ever mistaken, for kind 8.
    scores[7] = scores[8]
    evaluation = measure(scores, np.arange(40), labels, split="test").evaluation
    Card(name="many", task="unknown", sha256=sha256_of(many), created="2026-01-02", evaluation=evaluation).write(
        many.with_name("card.json")
    )
    return str(start_module_server(repository).http)


def card_of(name: str) -> Any:
    return json.loads((ROOT / "models" / name / "1" / "card.json").read_text())


def trust(page: Browser, key: str) -> None:
    """Shows what there is to know of a version."""
    page.press("2")
    page.wait("document.querySelector('.headline')")
    pick(page, key)
    page.wait("document.querySelector('header select').value === a", key)


def test_the_accuracy_has_its_interval(page: Browser) -> None:
    trust(page, "mnist-cnn/1")
    # 9,932 of 10,000, by the card.
    assert "99.32 % accuracy" in page.text()
    assert "Between 99.14 % and 99.46 % (95 % Wilson interval), on 10,000 samples of MNIST (test)" in page.text()
    assert "16 golden samples reproduced" in page.text()
    assert "CPUExecutionProvider" in page.text()


def test_recall_has_the_samples_and_interval_of_each_class(page: Browser) -> None:
    trust(page, "mnist-cnn/1")
    rows = page.run(ROWS, ".recall")
    assert len(rows) == 10
    # 883 of 892 fives.
    assert rows[5] == ["5", "99.0 %", "892", "98.1 % to 99.5 %"]


@pytest.mark.parametrize("name", ["mnist-cnn", "cifar10"])
def test_the_confusion_matrix_is_a_table_with_headings(page: Browser, name: str) -> None:
    trust(page, f"{name}/1")
    confusion = card_of(name)["evaluation"]["confusion"]
    rows = page.run(ROWS, ".confusion")
    assert [row[0] for row in rows] == confusion["labels"]
    assert [[int(cell.replace(",", "")) for cell in row[1:]] for row in rows] == confusion["counts"]
    headings = page.run("return [...document.querySelectorAll('.confusion [scope=col]')].map((each) => each.innerText)")
    assert headings == confusion["labels"]
    assert page.run("return document.querySelectorAll('.confusion td[style]').length") == 0
    heats = page.run(
        "return [...document.querySelectorAll('.confusion tbody tr:nth-child(4) td')].map((td) => td.className)"
    )
    if name == "cifar10":
        # Cats: 84 of 1,000 are taken for dogs, 26 for birds, 18 for deer, 6 for airplanes and none for automobiles.
        assert heats[:6] == ["heat-2", "heat-0", "heat-4", "right", "heat-3", "heat-5"]
        assert "Most often mistaken: dog for cat (87 of 1,000), cat for dog (84 of 1,000)" in page.text()


def test_bins_of_few_samples_are_listed_and_not_drawn(page: Browser) -> None:
    trust(page, "mnist-cnn/1")
    bins = [each for each in card_of("mnist-cnn")["calibration"]["reliability"] if each["samples"]]
    drawn = [each for each in bins if each["samples"] >= 30]
    assert page.run("return document.querySelectorAll('.diagram circle').length") == len(drawn) < len(bins)
    rows = page.run(ROWS, ".reliability")
    assert [int(row[2].replace(",", "")) for row in rows] == [each["samples"] for each in bins]
    assert [row[1] for row in rows].count("too few") == len(bins) - len(drawn)
    assert rows[-1][:2] == ["93 % to 100 %", f"{100 * drawn[-1]['accuracy']:.1f} %"]


@pytest.mark.parametrize("name", ["mnist-cnn", "cifar10"])
def test_the_surest_errors_have_their_pictures(page: Browser, name: str) -> None:
    trust(page, f"{name}/1")
    errors = card_of(name)["evaluation"]["surest_errors"]
    page.wait("[...document.querySelectorAll('.errors img')].every((each) => each.complete && each.naturalWidth >= 28)")
    texts = page.run("return [...document.querySelectorAll('.errors li')].map((each) => each.innerText)")
    assert len(texts) == 16
    for text, error in zip(texts, errors, strict=True):
        assert text.startswith(f"{error['label']} taken for {error['predicted']}")
        assert text.endswith(f"{100 * error['probability']:.2f} %, sample {error['sample']}")


def test_an_older_card_shows_what_it_has(page: Browser) -> None:
    trust(page, "older/1")
    assert "99.32 % accuracy" in page.text()
    assert page.run(ROWS, ".recall")[5][:2] == ["5", "99.0 %"]
    assert page.run("return document.querySelectorAll('.confusion, .reliability, .errors, .of').length") == 0
    assert "expected calibration error, 15 bins" in page.text()


def test_of_many_classes_those_of_the_lowest_recall_are_shown(page: Browser) -> None:
    trust(page, "many/1")
    rows = page.run(ROWS, ".recall")
    assert len(rows) == 20
    assert rows[0][:3] == ["kind 7", "0.0 %", "1"]
    assert "The 20 lowest of 40 classes." in page.text()
    assert len(page.run(ROWS, ".confusion")) == 40
    assert "Most often mistaken: kind 7 for kind 8 (1 of 1)." in page.text()
    assert "The wrong predictions of the highest probability (1 of 1)" in page.text()
    assert page.text(".errors li").startswith("kind 7 taken for kind 8")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_a_version_without_a_card_says_so(page: Browser) -> None:
    trust(page, "doubler/1")
    assert page.text(".headline") == "No evidence"
    assert "This version has no card" in page.text()
    assert "unverified: no card.json" in page.text()


@pytest.mark.skipif(not AXE.is_file(), reason="needs npm's axe-core in .venv/node (make test installs it)")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("key", ["cifar10/1", "older/1", "doubler/1"])
def test_axe_finds_no_violation(page: Browser, key: str, theme: str) -> None:
    trust(page, key)
    page.run("document.documentElement.dataset.theme = a", theme)
    assert violations(page) == []


def test_a_phone_scrolls_the_matrix_and_not_the_page(page: Browser, http: str) -> None:
    page.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        visit(page, http)
        trust(page, "cifar10/1")
        assert page.run("return document.documentElement.scrollWidth") <= 360
        page.run("document.querySelector('[aria-label=\"Confusion matrix\"]').focus()")
        page.press("\ue014")
        page.wait("document.activeElement.scrollLeft > 0")
    finally:
        page.cdp("Emulation.clearDeviceMetricsOverride")
