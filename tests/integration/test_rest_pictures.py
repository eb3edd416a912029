"""Images over HTTP: as a form, and as a body."""

import base64
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Call = Callable[..., Any]

CLASSIFY = "/v1/models/mnist-cnn:classify"
BOUNDARY = "a1b2"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def server(start_module_server: Callable[..., Any], root: Path) -> Any:
    """A server on the committed models that takes three pictures at once."""
    return start_module_server(root / "models", "--max-images", "3", "--max-message-mib", "1")


@pytest.fixture(scope="module")
def call(server: Any, call_http: Callable[..., Any]) -> Call:
    """Sends an HTTP request to it."""
    return lambda *args, **kwargs: call_http(server, *args, **kwargs)


@pytest.fixture(scope="module")
def digits(root: Path) -> list[bytes]:
    """PNG files of the digits 0 to 9."""
    return [path.read_bytes() for path in sorted((root / "examples" / "mnist").glob("*.png"))]


def part(content: bytes, name: str = "image", file: str | None = "x.png") -> bytes:
    """Returns a part of a form: a file's, or a field's where `file` is None."""
    naming = f'name="{name}"' + ("" if file is None else f'; filename="{file}"')
    return f"--{BOUNDARY}\r\nContent-Disposition: form-data; {naming}\r\n\r\n".encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def labels(answer: Any) -> list[list[str]]:
    assert answer.status == 200, answer.body
    return [[each["label"] for each in result["classes"]] for result in answer.json["results"]]


def test_a_form_of_pictures_is_answered_in_its_order(call: Call, digits: list[bytes]) -> None:
    body = part(digits[7], file="7.png") + part(digits[2], file="zwei.png") + END
    answer = call(CLASSIFY, body, FORM)
    assert labels(answer) == [["7"], ["2"]]
    assert (answer.json["model"], answer.json["version"]) == ("mnist-cnn", "1")
    assert [each["file"] for each in answer.json["results"]] == ["7.png", "zwei.png"]
    (best,) = answer.json["results"][0]["classes"]
    assert (best["index"], 0.9 < best["probability"] <= 1) == (7, True)


def test_a_body_may_be_a_picture_itself(call: Call, digits: list[bytes]) -> None:
    answer = call(CLASSIFY, digits[4], PNG)
    assert labels(answer) == [["4"]]
    assert "file" not in answer.json["results"][0]


def test_an_undecodable_file_name_is_shown_as_text(call: Call, digits: list[bytes]) -> None:
    """UTF-7 can write half of a surrogate pair."""
    form = {"Content-Type": FORM["Content-Type"] + "; charset=utf-7"}
    answer = call(CLASSIFY, part(digits[7], file="+2AA-") + END, form)
    assert labels(answer) == [["7"]]
    assert answer.json["results"][0]["file"] == "?"


def test_curl_sends_pictures_as_the_documentation_says(server: Any, root: Path) -> None:
    picture = root / "examples" / "mnist" / "digit-7-test-00000.png"
    command = ["curl", "-sS", "-F", f"image=@{picture}", server.http + CLASSIFY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"label":"7"' in done.stdout


def test_a_version_may_be_named(call: Call, digits: list[bytes]) -> None:
    assert labels(call("/v1/models/mnist-cnn/versions/1:classify", digits[4], PNG)) == [["4"]]
    assert call("/v1/models/mnist-cnn/versions/2:classify", digits[4], PNG).status == 404


@pytest.mark.parametrize("way", ["query", "field"])
def test_options_come_in_the_query_or_in_the_form(call: Call, digits: list[bytes], way: str) -> None:
    if way == "query":
        answer = call(f"{CLASSIFY}?top_k=3&inversion=never", digits[7], PNG)
    else:
        fields = part(b"3", "top_k", None) + part(b"never", "inversion", None)
        answer = call(CLASSIFY, part(digits[7]) + fields + END, FORM)
    ((best, *others),) = labels(answer)
    assert (best, len(others)) == ("7", 2)


def test_a_picture_comes_back_as_the_model_saw_it(call: Call, digits: list[bytes]) -> None:
    body = part(digits[1]) + part(b"no picture", file="notes.txt") + part(digits[3]) + END
    first, broken, third = call(f"{CLASSIFY}?return_seen=true", body, FORM).json["results"]
    for result, digit in ((first, digits[1]), (third, digits[3])):
        pixels = base64.b64decode(result["seen"].pop("data"))
        assert pixels == Image.open(io.BytesIO(digit)).tobytes()
        assert result["seen"] == {"height": 28, "width": 28, "channels": 1}
    assert "seen" not in broken
    assert "seen" not in call(CLASSIFY, digits[1], PNG).json["results"][0]


def test_a_picture_that_cannot_be_read_costs_the_others_nothing(call: Call, digits: list[bytes]) -> None:
    body = part(digits[1]) + part(b"no picture", file="notes.txt") + part(digits[3][:100], file="half.png") + END
    answer = call(CLASSIFY, body, FORM)
    assert answer.status == 200
    good, text, half = answer.json["results"]
    assert (good["classes"][0]["label"], "error" in good) == ("1", False)
    assert "this is text" in text["error"]
    assert (text["file"], "classes" in text) == ("notes.txt", False)
    assert "damaged" in half["error"]


@pytest.mark.parametrize(
    ("headers", "make", "status", "said"),
    [
        pytest.param(FORM, lambda png: END, 400, "0 images; expected 1 to 3", id="no part"),
        pytest.param(FORM, lambda png: part(png) * 4 + END, 400, "4 images; expected 1 to 3", id="one too many"),
        pytest.param(FORM, lambda png: part(png) * 9 + END, 400, "Too many files", id="far too many"),
        pytest.param(FORM, lambda png: part(png, "picture") + END, 400, 'part named "picture"', id="another name"),
        pytest.param(FORM, lambda png: part(png, file=None) + END, 400, "files named image", id="no file"),
        pytest.param(FORM, lambda png: part(b"x", "topk", None) + END, 400, 'no option "topk"', id="another option"),
        pytest.param(FORM, lambda png: part(png)[:-20], 400, "0 images", id="cut off"),
        pytest.param(FORM, lambda png: b"no form", 400, "the form cannot be read", id="no form"),
        pytest.param(FORM, lambda png: b"--a1b2\r\n\r\nx\r\n" + END, 400, "the form cannot be read", id="no name"),
        pytest.param(FORM, lambda png: part(b"x", "a", None) * 20 + END, 400, "Too many fields", id="many fields"),
        pytest.param(
            {"Content-Type": "multipart/form-data"}, lambda png: part(png), 400, "Missing boundary", id="no boundary"
        ),
        pytest.param({}, lambda png: png, 415, 'Content-Type is ""; expected multipart/form-data', id="no type"),
        pytest.param({"Content-Type": "text/plain"}, lambda png: png, 415, '"text/plain"', id="another type"),
        pytest.param(PNG, lambda png: bytes(1024 * 1024 + 1), 413, "1,048,576 bytes", id="too large"),
    ],
)
def test_a_wrong_body_is_refused_in_words(
    call: Call, digits: list[bytes], headers: dict[str, str], make: Callable[[bytes], bytes], status: int, said: str
) -> None:
    answer = call(CLASSIFY, make(digits[0]), headers)
    assert answer.status == status
    assert said in answer.error


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("top_k=0", "top_k is 0; expected 1 or more"),
        ("top_k=-1", "top_k is -1"),
        ("top_k=many", 'top_k is "many"; expected 1 or more'),
        ("top_k=9999999999", "expected 1 or more"),
        ("inversion=maybe", 'inversion is "maybe"; expected one of never, always, auto'),
        ("return_seen=1", 'return_seen is "1"; expected true or false'),
        ("best=3", 'there is no option "best"; expected top_k, inversion, return_seen or occlusion'),
    ],
)
def test_a_wrong_option_is_refused(call: Call, digits: list[bytes], query: str, said: str) -> None:
    answer = call(f"{CLASSIFY}?{query}", digits[0], PNG)
    assert answer.status == 400
    assert said in answer.error


@pytest.mark.parametrize("path", ["/v1/models/none:classify", "/v1/models/mnist-cnn/versions/7:classify"])
def test_a_model_or_version_that_is_not_there_is_refused(call: Call, digits: list[bytes], path: str) -> None:
    assert call(path, digits[0], PNG).status == 404


def test_after_all_that_is_wrong_nothing_is_in_the_log(server: Any, call: Call, digits: list[bytes]) -> None:
    assert labels(call(CLASSIFY, digits[9], PNG)) == [["9"]]
    assert [event for event in server.events() if event["level"] == "error"] == []
