"""Classify over HTTP: converts pictures in a form or as the body to gRPC's messages and back."""

import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from pixelserve.v1 import classifier_pb2 as pb

from ...errors import InvalidRequest
from .messages import as_json
from .status import HttpError

_PART = "image"
_INVERSIONS = {"never": pb.INVERSION_NEVER, "always": pb.INVERSION_ALWAYS, "auto": pb.INVERSION_AUTO}
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")
_CELLS = re.compile(r"[0-9]{1,9}")
# The library parses in Python, so other tasks run after each piece of this size.
_PIECE_BYTES = 64 * 1024


class _Form(MultiPartParser):
    # The body is already in memory; do not write its parts to disk.
    spool_max_size = sys.maxsize


async def to_message(
    model: str, version: str, body: bytes, headers: Headers, options: Mapping[str, str], max_images: int
) -> tuple[bytes, list[str]]:
    """Converts a body to a serialized ClassifyRequest; also returns the pictures' file names, or empty strings.

    Args:
        model: the model's name, from the path.
        version: the version, from the path; empty: the default one.
        body: a form with parts named `image`, or one picture.
        headers: the request's headers; Content-Type decides between the two.
        options: top_k, inversion, return_seen and occlusion, from the query; form fields have the same names.
        max_images: maximum pictures per request.

    Raises:
        InvalidRequest: the form or an option is invalid.
        HttpError: the content type is not supported.
    """
    request = pb.ClassifyRequest(model=model, version=version)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    files: list[tuple[str, bytes]] = []
    fields: dict[str, str] = {}
    if content_type == "multipart/form-data":
        files, fields = await _form(body, headers, max_images)
    elif content_type.startswith("image/"):
        files = [("", body)]
    else:
        raise HttpError(
            415,
            f'Content-Type is "{content_type[:80]}"; expected multipart/form-data with parts named {_PART} '
            f"(curl -F {_PART}=@picture.png), or a picture's own type, such as image/png",
        )
    _set_options(request, {**options, **fields})
    for _, content in files:
        request.images.add(encoded=content)
    return request.SerializeToString(), [name for name, _ in files]


async def _form(body: bytes, headers: Headers, max_images: int) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    """Returns a form's pictures with their file names, and its other fields."""
    try:
        # One more than allowed: the core refuses it and states the maximum.
        form = await _Form(headers, _pieces(body), max_files=max_images + 1, max_fields=10).parse()
    except MultiPartException as error:
        raise InvalidRequest(f"the form cannot be read: {error.message}") from error
    try:
        return await _sorted(form)
    finally:
        await form.close()


async def _sorted(form: FormData) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    files, fields = [], {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name == _PART:
            # A form's charset, such as UTF-7, may decode to an unpaired surrogate.
            file_name = (value.filename or "").encode(errors="replace").decode()
            files.append((file_name, await value.read()))
        elif isinstance(value, UploadFile) or name == _PART:
            raise InvalidRequest(
                f"a part named {json.dumps(name[:40])} came; pictures are files named {_PART}: curl -F {_PART}=@FILE"
            )
        else:
            fields[name] = value
    return files, fields


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _PIECE_BYTES):
        yield body[start : start + _PIECE_BYTES]
        await asyncio.sleep(0)


def _set_options(request: pb.ClassifyRequest, options: Mapping[str, str]) -> None:
    for name, value in options.items():
        if name == "top_k":
            if not _WHOLE_NUMBER.fullmatch(value):
                raise InvalidRequest(f"top_k is {json.dumps(value[:40])}; expected 1 or more, or none for 1")
            request.top_k = int(value)
        elif name == "inversion":
            if value not in _INVERSIONS:
                raise InvalidRequest(f"inversion is {json.dumps(value[:40])}; expected one of {', '.join(_INVERSIONS)}")
            request.inversion = _INVERSIONS[value]
        elif name == "occlusion":
            if not _CELLS.fullmatch(value):
                raise InvalidRequest(f"occlusion is {json.dumps(value[:40])}; expected cells per side, or 0 for none")
            request.occlusion = int(value)
        elif name == "return_seen":
            if value not in ("true", "false"):
                raise InvalidRequest(f"return_seen is {json.dumps(value[:40])}; expected true or false")
            request.return_seen = value == "true"
        else:
            raise InvalidRequest(
                f"there is no option {json.dumps(name[:40])}; expected top_k, inversion, return_seen or occlusion"
            )


def to_json(message: bytes, names: list[str]) -> dict[str, Any]:
    """Converts a serialized ClassifyResponse: for each picture, its best classes or its error."""
    response = pb.ClassifyResponse.FromString(message)
    results = []
    for name, result in zip(names, response.results, strict=True):
        shown: dict[str, Any] = {"file": name} if name else {}
        classes = {"classes": [as_json(each) for each in result.classes]}
        if result.HasField("seen"):
            shown["seen"] = pixels(result.seen)
        if result.occlusion:
            shown["occlusion"] = list(result.occlusion)
        results.append(shown | ({"error": result.error} if result.error else classes))
    kind = {"output_kind": response.output_kind} if response.output_kind else {}
    return {"model": response.model, "version": response.version, **kind, "results": results}


def pixels(raw: pb.RawPixels) -> dict[str, Any]:
    """Returns pixels as JSON-compatible values."""
    return {**as_json(raw), "data": base64.b64encode(raw.data).decode()}
