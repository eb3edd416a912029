"""Every served method declares the scope that a token needs; a method without one is denied to all."""

import re
from pathlib import Path

import pytest

from pixelserve.oip import inference_pb2
from pixelserve.v1 import classifier_pb2
from pixelserve_server.access.methods import RULES
from pixelserve_server.api.stream import INFER_STREAM
from pixelserve_server.app import Application
from pixelserve_server.deadline import Deadline
from pixelserve_server.observe.logs import LogLevel
from pixelserve_server.settings import Settings
from pixelserve_server.transport import Services

ROOT = Path(__file__).resolve().parent.parent.parent


class NoLog:
    """Discards lines."""

    def __getattr__(self, level: str) -> object:
        return lambda *_, **__: None


@pytest.fixture(scope="module")
def services() -> Services:
    settings = Settings(model_repository=ROOT / "models", transport="grpcio", http=False)
    application = Application(settings, NoLog(), LogLevel("error"))  # type: ignore[arg-type]  # unused
    services = application._services()
    application.stop(Deadline.after(10))
    return services


@pytest.fixture(scope="module")
def served(services: Services) -> set[str]:
    return {*services.dispatcher.methods, *services.streamed}


def test_every_served_method_has_a_rule(served: set[str]) -> None:
    assert served <= RULES.keys()


def test_what_the_authorizer_is_not_asked_about_is_open(services: Services) -> None:
    unasked = {*services.dispatcher._probes, *services.streamed} - {INFER_STREAM}
    assert unasked
    assert not [method for method in unasked if RULES[method].scopes]


def test_no_rule_is_about_a_method_that_is_not_served(served: set[str]) -> None:
    assert RULES.keys() <= served


def test_what_names_a_model_is_the_field_that_the_protocol_calls_so(served: set[str]) -> None:
    found = 0
    for module in (inference_pb2, classifier_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = RULES.get(f"/{service.full_name}/{method.name}")
                named = [
                    field.number
                    for field in method.input_type.fields
                    if field.name in ("model_name", "model")
                    or (field.name == "name" and method.name.startswith(("Model", "ListModels")))
                ]
                if rule is None or f"/{service.full_name}/{method.name}" not in served:
                    continue
                changes = [field.number for field in method.input_type.fields if field.name == "settings"]
                assert [rule.change] == (changes or [0]), method.name
                if rule.model > 0:
                    assert [rule.model] == named, method.name
                    found += 1
                elif rule.model == 0:
                    # A stream's requests name theirs, and are checked one by one.
                    assert not named or method.name == "ModelStreamInfer", method.name
    assert found >= 9


def test_the_page_lists_each_scopes_methods() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    listed = {
        method: {scope.strip() for scope in scopes.split(" or ")} - {"none"}
        for scopes, methods in re.findall(r"^\| ([a-z ]+) \| (.+?) \|", page, re.MULTILINE)
        for method in re.findall(r"`(\w+)`", methods)
    }
    expected = {
        method.rpartition("/")[2]: {str(scope) for scope in rule.scopes}
        for method, rule in RULES.items()
        if not method.startswith("/grpc.")
    }
    assert listed == expected
