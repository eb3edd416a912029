"""`pixelserve classify` saves the model's input, and occlusion maps."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.cli.seen import over, png
from pixelserve.v1 import classifier_pb2 as pb

SEEN = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


@pytest.fixture
def seeing(fake: Any) -> Any:
    """A server that answers with pixels and a map; a picture that says broken is broken."""

    def result(image: pb.Image, _: int) -> pb.Result:
        if image.encoded == b"broken":
            return pb.Result(error="this is not a picture")
        seen = pb.RawPixels(height=4, width=6, channels=3, data=SEEN.tobytes())
        return pb.Result(classes=[pb.Class(label="4", probability=1)], seen=seen, occlusion=[0.5, 0, -0.25, math.inf])

    fake.result = result
    return fake


def read(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("shape", [(4, 6, 3), (5, 3, 1), (1, 1, 1)])
def test_png_files_are_what_other_programs_read(shape: tuple[int, int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(png(levels))) as image:
        assert image.mode == ("RGB" if shape[2] == 3 else "L")
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), levels)


def test_a_map_is_drawn_over_the_cells_that_the_server_covered() -> None:
    levels = np.full((7, 9, 1), 100, np.uint8)
    drawn = over(levels, np.float32([[1, 0], [0, -0.5]]))
    factor = 32
    assert drawn.shape == (7 * factor, 9 * factor, 3)
    cells = drawn[1::factor, 1::factor]
    # Covered by the server: rows 0 to 2 and 3 to 6, columns 0 to 3 and 4 to 8.
    assert [tuple(map(int, cells[row, column])) for row, column in ((0, 0), (2, 3), (2, 4), (3, 3))] == [
        *[(208, 30, 30)] * 2,
        *[(100, 100, 100)] * 2,
    ]
    assert tuple(map(int, cells[3, 4])) == tuple(map(int, cells[6, 8])) == (65, 65, 154)


def test_a_map_of_nothing_leaves_the_picture_as_it_is() -> None:
    np.testing.assert_array_equal(over(np.full((300, 300, 3), 7, np.uint8), np.zeros((8, 8), np.float32)), 7)


def test_what_the_model_saw_is_saved_by_number_and_name(
    ask: Callable[..., Any], seeing: Any, folder: Path, tmp_path: Path
) -> None:
    ran = ask("classify", folder, "--model", "digits", "--save-seen", tmp_path / "new" / "seen")
    assert ran.code == 10
    assert len(ran.out.splitlines()) == 5
    saved = sorted((tmp_path / "new" / "seen").iterdir())
    # The third picture is broken.
    assert [path.name for path in saved] == ["00001-a.png", "00002-c.png", "00004-z.png"]
    np.testing.assert_array_equal(read(saved[0]), SEEN)
    assert [request.return_seen for request in seeing.requests] == [True]
    assert not seeing.requests[0].occlusion


def test_maps_are_saved_beside_it(ask: Callable[..., Any], seeing: Any, folder: Path, tmp_path: Path) -> None:
    ran = ask("classify", folder / "a.png", "--model", "digits", "--save-seen", tmp_path / "seen", "--occlusion", 2)
    assert ran.code == 0
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["00001-a-occlusion.png", "00001-a.png"]
    assert read(tmp_path / "seen" / "00001-a-occlusion.png").shape == (4 * 56, 6 * 56, 3)
    assert seeing.requests[0].occlusion == 2


def test_json_has_the_map_if_it_was_asked_for(ask: Callable[..., Any], seeing: Any, folder: Path) -> None:
    ran = ask("classify", folder / "a.png", folder / "b" / "d.webp", "--model", "digits", "--json", "--occlusion", 2)
    first, broken = (json.loads(line, parse_constant=pytest.fail) for line in ran.out.splitlines())
    assert first["occlusion"] == [[0.5, 0.0], [-0.25, None]]
    assert "occlusion" not in broken
    assert not seeing.requests[0].return_seen


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--occlusion", "4"], "--occlusion needs --json, or --save-seen DIR"),
        (["--occlusion", "9", "--json"], "--occlusion"),
        (["--save-seen", "{folder}/b/seen"], "is inside"),
        (["--save-seen", "{folder}"], "is inside"),
        (["--save-seen", "{other}/file/seen"], "cannot be written"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_asked(
    ask: Callable[..., Any], fake: Any, folder: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    (tmp_path / "file").write_text("")
    given = [argument.format(folder=folder, other=tmp_path) for argument in arguments]
    ran = ask("classify", folder, "--model", "digits", *given)
    assert ran.code == 2
    assert told in " ".join(ran.err.split())
    assert not fake.requests


def test_a_picture_that_cannot_be_saved_ends_the_command(
    ask: Callable[..., Any], seeing: Any, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "seen" / "00001-a.png").mkdir(parents=True)
    ran = ask("classify", folder, "--model", "digits", "--save-seen", tmp_path / "seen")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("pixelserve: ")
    assert "00001-a.png cannot be written: Is a directory" in ran.err
