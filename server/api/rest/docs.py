"""/openapi.json, and /docs, the same as a self-contained page, because viewers load code from other sites."""

import json
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from . import examples, json_body, openapi
from .http_call import HttpInvoker
from .openapi import Document

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem; }
summary { cursor: pointer; padding: .4rem 0; } summary b { display: inline-block; width: 3.5rem; }
details { border-bottom: 1px solid #ddd; } code, summary { font-family: ui-monospace, monospace; }
"""
_MAX_EXAMPLE = 400


class DocsPaths:
    """The paths of the API's description."""

    def __init__(self, call: HttpInvoker, version: str, *, needs_token: bool) -> None:
        self._call = call
        self._version = version
        self._needs_token = needs_token

    def get(self) -> dict[str, Callable[[Request], Awaitable[Response]]]:
        """Returns the handler of each path."""
        return {"/openapi.json": self._for_programs, "/docs": self._for_people}

    async def _for_programs(self, request: Request) -> Response:
        return Response(json_body.dump(await self._description(request)), media_type="application/json")

    async def _for_people(self, request: Request) -> Response:
        return HTMLResponse(render(await self._description(request)))

    async def _description(self, request: Request) -> Document:
        served = await examples.served(self._call, request, needs_token=self._needs_token)
        return openapi.document(self._version, served)


def render(document: dict[str, Any]) -> str:
    """Returns the page, HTML, for an OpenAPI document."""
    info = document["info"]
    failures = document["components"]["responses"]
    operations = "".join(
        _operation(path, method, operation, failures)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f'<p>{escape(info["description"])} For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{operations}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], failures: dict[str, Any]) -> str:
    samples = "\n".join(sample["source"] for sample in operation["x-codeSamples"])
    parts = [f"<p>{escape(operation['description'])}</p>", f"<pre>{escape(samples)}</pre>"]
    # Path parameters are references.
    parts += [_parameter(each) for each in operation.get("parameters", ()) if "name" in each]
    contents = operation.get("requestBody", {}).get("content", {})
    parts += [_example("Request", each["example"]) for each in contents.values() if "example" in each]
    answers = operation["responses"]["200"]["content"].values()
    parts += [_example("Answer", each["example"]) for each in answers if "example" in each]
    texts = [
        (status, failures[answer["$ref"].rpartition("/")[2]]["description"])
        for status, answer in sorted(operation["responses"].items())
        if "$ref" in answer
    ]
    parts.append("<ul>" + "".join(f"<li>{status}: {escape(text)}</li>" for status, text in texts) + "</ul>")
    head = f"<summary><b>{method.upper()}</b>{escape(path)} – {escape(operation['summary'])}</summary>"
    return f"<details>{head}{''.join(parts)}</details>"


def _parameter(parameter: dict[str, Any]) -> str:
    text = escape(parameter["schema"]["description"])
    return f"<p><code>{escape(parameter['name'])}</code> ({parameter['in']}): {text}</p>"


def _example(title: str, example: object) -> str:
    text = json.dumps(example, ensure_ascii=False)
    shown = text if len(text) <= _MAX_EXAMPLE else text[:_MAX_EXAMPLE] + " …"
    return f"<p>{title}</p><pre>{escape(shown)}</pre>"
