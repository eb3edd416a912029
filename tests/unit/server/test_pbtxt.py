"""Parse errors of config.pbtxt, and the positions of its fields."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from pixelserve_server.errors import RepositoryError
from pixelserve_server.repository.pbtxt import error_at, line_of, parse

PATH = Path("models/digits/config.pbtxt")


def mistakes(text: str) -> list[RepositoryError]:
    return parse(PATH, text)[1]


# The second line of a file, its problem, and the remedy.
PLAIN = {
    "a misspelt field": ("max_batch_sizes: 8", "ModelConfig has no max_batch_sizes", "max_batch_size: 8"),
    "a field in capitals": ("Max_Batch_Size: 8", "ModelConfig has no Max_Batch_Size", "max_batch_size: 8"),
    "a misspelt field further in": (
        "dynamic_batching { preferred_batch_sizes: 4 }  # two",
        "ModelDynamicBatching has no preferred_batch_sizes",
        "dynamic_batching { preferred_batch_size: 4 }  # two",
    ),
    "a misspelt field after a value of its name": (
        "input { name: 'dimz' dimz: 1 }",
        "ModelInput has no dimz",
        "input { name: 'dimz' dims: 1 }",
    ),
    "a type as NumPy names it": (
        "input { data_type: TYPE_FLOAT32 }",
        "DataType has no TYPE_FLOAT32",
        "input { data_type: TYPE_FP32 }",
    ),
    "a type as the protocol names it": (
        "input { data_type: UINT8 }",
        "DataType has no UINT8",
        "input { data_type: TYPE_UINT8 }",
    ),
    "a type in quotes": (
        'input { data_type: "TYPE_INT64" }',
        'DataType has no "TYPE_INT64"',
        "input { data_type: TYPE_INT64 }",
    ),
    "a kind in small letters": (
        "instance_group [ { kind: kind_cpu } ]",
        "ModelInstanceGroup.Kind has no kind_cpu",
        "instance_group [ { kind: KIND_CPU } ]",
    ),
    "text without quotes": ("default_model_filename: net", "expected text in quotes", 'default_model_filename: "net"'),
    "a number in quotes": ('max_batch_size: "8"', "expected a number without quotes", "max_batch_size: 8"),
    "no colon": ("max_batch_size 8", "expected : before `8`", "max_batch_size: 8"),
    "a sign of equality": ("max_batch_size = 8", "expected : before `8`", "max_batch_size: 8"),
    "no comma in a list": (
        'input [ { name: "a" } { name: "b" } ]',
        'expected , before `{ name: "b" } ]`',
        'input [ { name: "a" }, { name: "b" } ]',
    ),
}


@pytest.mark.parametrize(("line", "said", "write"), PLAIN.values(), ids=PLAIN)
def test_a_plain_mistake_is_said_with_its_line_and_what_to_write(line: str, said: str, write: str) -> None:
    config, (error,) = parse(PATH, f'name: "digits"\n  {line}\n')
    assert config is not None
    assert (error.path, error.line, error.write) == (PATH, 2, write)
    assert error.problem == f"`{line}`: {said}"
    assert str(error) == f"{PATH}:2: `{line}`: {said}; write: {write}"
    # The suggestion is correct.
    assert mistakes(f'name: "digits"\n{error.write}') == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            "max_batch_size: many", "Couldn't parse integer: many; expected Triton's ModelConfig", id="no number"
        ),
        pytest.param('name: "again"', "name is there already; keep one of the two", id="twice"),
        pytest.param(
            "dynamic_batching { } sequence_batching { }",
            "sequence_batching and dynamic_batching exclude each other; keep one of the two",
            id="two that exclude each other",
        ),
        pytest.param("zzz: 1", "ModelConfig has no zzz; remove it, or take one of name, platform", id="like no field"),
        pytest.param("input { dims: 28 28 }", "expected several values in brackets", id="values without brackets"),
        pytest.param("input {", "the file ends here, and something is open; close it with }", id="not closed"),
        pytest.param("}", "Expected identifier or number, got }; expected Triton's", id="closed too often"),
        pytest.param('backend: "onnx', "String missing ending quote", id="a quote that is not closed"),
    ],
)
def test_a_mistake_that_could_mean_anything_is_said_with_its_line(line: str, said: str) -> None:
    config, (error,) = parse(PATH, f'name: "digits"\n{line}\n')
    assert config is None
    assert (error.line, error.write) == (2, "")
    assert error.problem.startswith(f"`{line}`: {said}")


def test_a_mistake_has_its_line_whatever_words_protobuf_has_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protobuf release may reword its errors, which only removes the suggestions."""
    parse_text = text_format.Parse

    def in_other_words(text: str, message: Any) -> Any:
        try:
            return parse_text(text, message)
        except text_format.ParseError as error:
            raise text_format.ParseError("in other words", error.GetLine(), error.GetColumn()) from error

    monkeypatch.setattr(text_format, "Parse", in_other_words)
    config, (error,) = parse(PATH, 'name: "digits"\nmax_bach_size: 8\n')
    assert config is None
    assert (error.line, error.write) == (2, "")
    assert error.problem.startswith("`max_bach_size: 8`: in other words; expected Triton's ModelConfig")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_oldest_protobuf_that_is_taken_words_its_errors_as_the_newest(tmp_path: Path, root: Path) -> None:
    (oldest,) = re.findall(r'"protobuf>=([\d.]+),', (root / "pyproject.toml").read_text())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "old"]
    subprocess.run([*pip, f"protobuf=={oldest}"], check=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", __file__]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "old")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    which = [sys.executable, "-c", "import google.protobuf; print(google.protobuf.__version__)"]
    assert subprocess.run(which, env=environment, capture_output=True, text=True).stdout.strip() == oldest


def test_every_mistake_is_found_in_the_order_of_the_lines() -> None:
    text = 'nam: "digits"\nmax_batch_size: many\ninput {\n  dimz: [ 4 ]\n  zzz: 1\n}\noptimisation { }\n'
    config, errors = parse(PATH, text)
    assert config is None
    assert [(error.line, error.write) for error in errors] == [
        (1, 'name: "digits"'),
        (2, ""),
        (4, "dims: [ 4 ]"),
        (5, ""),
        (7, "optimization { }"),
    ]


def test_a_file_of_another_kind_does_not_make_a_message_a_line() -> None:
    assert len(mistakes("\n".join(f"zzz{number}: 1" for number in range(1000)))) == 20


def test_lines_end_where_editors_say_that_they_end() -> None:
    (error,) = mistakes('name: "a\x0cb"\r\nmax_batch_sizes: 8\r\n')
    assert (error.line, error.write) == (2, "max_batch_size: 8")


def test_an_empty_file_is_a_configuration() -> None:
    config, errors = parse(PATH, "")
    assert config is not None
    assert errors == []


WRITTEN = """name: "x"  # input { dims: 1 }
input [
  { name: "input"
    dims: [ 1, 2 ] },
  { name: "b", data_type: TYPE_FP32
    optional: true }
]
output { name: "c" }
output <
  label_filename: 'dims: {'
  dims: 1
  dims: 2
>
parameters { key: "a.b" value { string_value: "1" } }
parameters: {
  key: 'inversion'
  value: { string_value: "1" }
}
instance_group [ { kind: KIND_CPU }, { count: 2 } ]
dynamic_batching { preferred_batch_size: [
  1, 2 ] max_queue_delay_microseconds:
  5 }
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("name", 1),
        ("input", 2),
        ("input[0].dims", 4),
        ("input[1].data_type", 5),
        ("input[1].optional", 6),
        ("output[0].name", 8),
        ("output", 8),
        ("output[1].dims", 11),
        ('parameters["a.b"]', 14),
        ('parameters["inversion"]', 16),
        ("instance_group[1].count", 19),
        ("dynamic_batching.max_queue_delay_microseconds", 21),
        # Missing fields are located where they would be.
        ("input[1].dims", 5),
        ("dynamic_batching.preserve_ordering", 20),
        ("max_batch_size", None),
        ("version_policy.latest", None),
    ],
)
def test_a_field_is_found_on_its_line(tmp_path: Path, place: str, line: int | None) -> None:
    (tmp_path / "config.pbtxt").write_text(WRITTEN)
    assert parse(PATH, WRITTEN)[1] == []
    assert line_of(tmp_path / "config.pbtxt", place) == line


@pytest.mark.parametrize("content", [None, b"\xff", b"name: 'x", b"}}} ] name"])
def test_a_file_that_cannot_be_read_has_no_lines(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "config.pbtxt").write_bytes(content)
    error = error_at(tmp_path / "config.pbtxt", "max_batch_size", "is wrong", "max_batch_size: 1")
    assert str(error) == f"{tmp_path / 'config.pbtxt'}: is wrong; write: max_batch_size: 1"
