"""POST .../infer. Clients repeat the same JSON, so it is parsed once."""

import asyncio
import re
from collections.abc import Mapping

from .. import open_inference
from ..wire import encode_varint
from . import json_body
from .body import BodyReader, Receive, compressed, translated
from .http_call import HttpInvoker, Scope
from .infer_answer import AnswerForm, to_body
from .infer_request import HEADER_LENGTH, Head, json_size, to_head

_METHOD = f"/{open_inference.SERVICE}/ModelInfer"
_HEADER_LENGTH = HEADER_LENGTH.lower().encode()
# The id in its usual place, first, if it has no escapes.
_ID_FIRST = re.compile(rb'\{\s*"id"\s*:\s*"([ !#-\[\]-~]+)"\s*,')
# The id's tag in ModelInferRequest and ModelInferResponse (public protocol): number << 3 | 2.
_ID_TAG = bytes([3 << 3 | 2])
_MAX_KNOWN = 512
_MAX_TEXT_BYTES = 4096
# Larger bodies are copied on another thread, to keep the loop responsive.
_QUICK_COPY_BYTES = 1024 * 1024

_VARY = (b"vary", b"Accept-Encoding")
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")

Headers = list[tuple[bytes, bytes]]


class _Known:
    """Previously parsed JSON."""

    def __init__(self, head: Head, request_id: bytes) -> None:
        self.head = head
        self.request_id = request_id
        """The id (UTF-8) of JSON that has one elsewhere than first."""
        self.form: AnswerForm | None = None


class Inference:
    """Answers inference requests. Belongs to the event loop's thread.

    Args:
        call: calls gRPC methods.
        bodies: reads bodies.
        max_json_bytes: maximum bytes of JSON in one body.
    """

    def __init__(self, call: HttpInvoker, bodies: BodyReader, max_json_bytes: int) -> None:
        self._call = call
        self._bodies = bodies
        self._max_json_bytes = max_json_bytes
        # By model, version and JSON without a leading id.
        self._known: dict[tuple[str, str, bytes], _Known] = {}

    async def __call__(
        self, model: str, version: str, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> tuple[bytes, Headers]:
        """Returns the body and headers of the answer.

        Args:
            model: the model's name, from the path.
            version: the version, from the path; empty: the default one.
            scope: the HTTP request.
            headers: its headers, by lower-case name.
            receive: returns its body's parts.

        Raises:
            HttpError, RequestError: the request is invalid or refused.
            CallerLeft: the caller left before the body's end.
        """
        with self._bodies.room() as room:
            body = await room.read(headers, receive)
            text = body[: json_size(headers.get(_HEADER_LENGTH), len(body), self._max_json_bytes)]
            known, request_id = self._recall(model, version, text) or await self._learn(model, version, text)
            id_field = _ID_TAG + encode_varint(len(request_id)) + request_id if request_id else b""
            binary = memoryview(body)[len(text) :]
            if len(binary) <= _QUICK_COPY_BYTES:
                message = known.head.message(id_field, binary)
            else:
                message = await asyncio.to_thread(known.head.message, id_field, binary)
            answer = await self._call(_METHOD, message, scope)
        content, json_bytes = await _body(known, answer, id_field, request_id)
        encoding = None
        if b"accept-encoding" in headers:
            content, encoding = await compressed(content, headers[b"accept-encoding"].decode("latin-1"))
        return content, _headers(json_bytes, encoding)

    def _recall(self, model: str, version: str, text: bytes) -> tuple[_Known, bytes] | None:
        """Returns the cached JSON and the request's id; None: it is new."""
        found = _ID_FIRST.match(text)
        if found is None:
            known = self._known.get((model, version, text))
            return None if known is None else (known, known.request_id)
        known = self._known.get((model, version, b"{" + text[found.end() :]))
        return None if known is None else (known, found[1])

    async def _learn(self, model: str, version: str, text: bytes) -> tuple[_Known, bytes]:
        """Parses JSON, and caches it if another request may have the same."""
        head, named_id = await translated(len(text), to_head, model, version, text)
        request_id = named_id.encode()
        found = _ID_FIRST.match(text)
        rest = text if found is None else b"{" + text[found.end() :]
        known = _Known(head, request_id if found is None else b"")
        # A later id would override the first; a backslash may hide one.
        is_plain = found is None or not (b'"id"' in rest or b"\\" in rest)
        if is_plain and head.is_reusable and len(text) <= _MAX_TEXT_BYTES:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[model, version, rest] = known
        return known, request_id


async def _body(known: _Known, answer: bytes, id_field: bytes, request_id: bytes) -> tuple[bytes, int | None]:
    """Returns the body of a serialized ModelInferResponse and the size of its JSON; None: all of it."""
    wanted = known.head.wanted
    if not (known.head.is_reusable and wanted.any_binary) or len(answer) > _QUICK_COPY_BYTES:
        return await translated(len(answer), to_body, answer, wanted)
    json_id = json_body.dump(request_id.decode()) if request_id else b""
    if known.form is not None and (body := known.form.body(answer, id_field, json_id)) is not None:
        return body
    known.form = AnswerForm.of(answer, id_field, wanted)
    return await translated(len(answer), to_body, answer, wanted)


def _headers(json_bytes: int | None, encoding: str | None) -> Headers:
    headers = [_VARY, _JSON] if json_bytes is None else [_VARY, _BINARY, (_HEADER_LENGTH, b"%d" % json_bytes)]
    if encoding is not None:
        headers.append((b"content-encoding", encoding.encode()))
    return headers
