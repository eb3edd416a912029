"""deploy/kustomize equals the chart, and overlays differ from it like their values."""

import subprocess
from typing import Any

import pytest
import yaml
from helm_chart import program

from deploy.helm import kustomize


def built(folder: str) -> list[dict[str, Any]]:
    """Returns what `kubectl apply -k` would send."""
    command = [program("kubectl"), "kustomize", str(kustomize.KUSTOMIZE / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ordered(done.stdout)


def ordered(text: str) -> list[dict[str, Any]]:
    return sorted(yaml.safe_load_all(text), key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.mark.slow
def test_the_committed_files_are_what_the_chart_renders() -> None:
    program("helm")
    wanted = kustomize.documents()
    assert {path for folder in ("base", "overlays") for path in (kustomize.KUSTOMIZE / folder).rglob("*.yaml")} == set(
        wanted
    )
    for path, text in wanted.items():
        assert path.read_text() == text, "run `make kustomize`"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "settings"),
    [("base", ()), *((f"overlays/{name}", settings) for name, settings in kustomize.OVERLAYS.items())],
)
def test_kustomize_builds_what_helm_renders(folder: str, settings: tuple[str, ...]) -> None:
    program("helm")
    assert built(folder) == ordered(kustomize.rendered(*settings))


def test_no_token_is_committed() -> None:
    texts = [path.read_text() for path in kustomize.KUSTOMIZE.rglob("*.yaml")]
    assert len(texts) > 5
    assert not any("kind: Secret" in text for text in texts)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [{"op": "replace", "path": "/a", "value": 2}]),
        ({}, {"a/b~": 1}, [{"op": "add", "path": "/a~1b~0", "value": 1}]),
        ({"a": 1}, {}, [{"op": "remove", "path": "/a"}]),
        (
            [{"name": "a"}, {"name": "c"}],
            [{"name": "a"}, {"name": "b"}, {"name": "c", "x": 1}],
            [{"op": "add", "path": "/1", "value": {"name": "b"}}, {"op": "add", "path": "/2/x", "value": 1}],
        ),
        ([{"name": "a"}], [{"name": "b"}], [{"op": "replace", "path": "", "value": [{"name": "b"}]}]),
        ([1, 2], [1], [{"op": "replace", "path": "", "value": [1]}]),
    ],
)
def test_patches_say_what_differs(before: Any, after: Any, expected: list[Any]) -> None:
    assert list(kustomize.operations(before, after)) == expected
