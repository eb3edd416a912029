"""The examples in the client's docstrings and in docs/client.md are run, against a server."""

import asyncio
import doctest
import importlib
import pkgutil
import re
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pixelserve.client

MODULES = [f"pixelserve.client.{each.name}" for each in pkgutil.iter_modules(pixelserve.client.__path__)]
DEFAULT_ADDRESS = "127.0.0.1:8001"
MUST_HAVE_EXAMPLES = ["AsyncClient", "Client", "ModelVersion", "Prediction", "Retry", "Tls"]


def namespace() -> dict[str, Any]:
    return {"asyncio": asyncio, **{name: getattr(pixelserve.client, name) for name in pixelserve.client.__all__}}


def examples_in(module: str) -> Iterator[doctest.DocTest]:
    found = doctest.DocTestFinder().find(importlib.import_module(module), extraglobs=namespace())
    return (test for test in found if test.examples)


def run(test: doctest.DocTest, address: str) -> str:
    """Runs a test's examples with a server's address instead of the default; returns the failures."""
    for example in test.examples:
        example.source = example.source.replace(DEFAULT_ADDRESS, address)
    said: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("module", ["pixelserve.client", *MODULES])
def test_every_example_in_a_docstring_gives_what_it_says(
    module: str, fake: Any, certificate: Any, pictures_folder: Path
) -> None:
    shutil.copy(certificate.cert, pictures_folder / "ca.pem")
    assert not "".join(run(test, fake.address) for test in examples_in(module))


def test_everything_that_users_construct_or_call_has_an_example() -> None:
    with_example = {test.name for module in MODULES for test in examples_in(module)}
    ends = {name.rpartition(".client.")[2].partition(".")[2] for name in with_example}
    clients = [getattr(pixelserve.client, name) for name in ("Client", "AsyncClient")]
    methods = [
        f"{client.__name__}.{name}"
        for client in clients
        for name, member in vars(client).items()
        if isinstance(member, types.FunctionType) and not name.startswith("_")
    ]
    assert not {*MUST_HAVE_EXAMPLES, *methods} - ends


def guide_examples() -> list[str]:
    guide = Path(__file__).resolve().parents[3] / "docs" / "client.md"
    return re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)


@pytest.mark.parametrize("source", guide_examples())
def test_every_example_in_the_guide_runs(source: str, fake: Any, certificate: Any, pictures_folder: Path) -> None:
    shutil.copy(certificate.cert, pictures_folder / "ca.pem")
    code = source.replace(DEFAULT_ADDRESS, fake.address)
    exec(compile(code, "docs/client.md", "exec"), {"__name__": "__main__"})
