"""An image of one version serves that version, whatever config.pbtxt states for the others."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from pixelserve.oci import narrowing
from pixelserve.oip import model_config_pb2 as pb
from pixelserve_server.repository import aliases
from pixelserve_server.repository.config import read_config
from pixelserve_server.repository.layout import ModelFolder
from pixelserve_server.repository.selection import choose_versions


def parameter(alias: str, version: int) -> str:
    return f'parameters {{ key: "{alias}" value {{ string_value: "{version}" }} }}'


def test_the_names_of_versions_are_the_servers() -> None:
    assert narrowing.ALIASES == aliases.ALIASES


@pytest.mark.parametrize(
    "written",
    [
        "",
        "version_policy { all { } }",
        "version_policy { latest { num_versions: 2 } }",
        "version_policy { specific { versions: [ 1, 2 ] } }",
        "version_policy { specific { versions: [ 1 ] } }",
        parameter("stable", 1),
        f"{parameter('stable', 1)} {parameter('candidate', 2)} {parameter('previous', 3)}",
    ],
)
def test_the_version_is_served_under_its_number(tmp_path: Path, written: str) -> None:
    text = f'max_batch_size: 8 {written} parameters {{ key: "other" value {{ string_value: "kept" }} }}'
    (tmp_path / "digits" / "2").mkdir(parents=True)
    config = text_format.Parse(text, pb.ModelConfig())
    (tmp_path / "digits" / "config.pbtxt").write_bytes(narrowing.narrowed(config, text.encode(), 2))
    folder = ModelFolder(tmp_path / "digits")
    read = read_config(folder)
    chosen = choose_versions(folder, read)
    assert chosen.versions == [2]
    assert set(chosen.aliases) <= {"candidate"}
    assert read is not None
    assert read.max_batch_size == 8
    assert read.parameters["other"].string_value == "kept"


def test_a_configuration_that_names_no_other_version_keeps_its_bytes() -> None:
    text = f"# a comment\nmax_batch_size: 8\n{parameter('stable', 2)}\n".encode()
    assert narrowing.narrowed(text_format.Parse(text, pb.ModelConfig()), text, 2) == text
