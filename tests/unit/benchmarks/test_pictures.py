"""The bench generates its images, and both sides of a figure prepare the same files."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.compare import pictures
from benchmarks.compare.errors import LoadError
from benchmarks.compare.figures import JPEGS
from benchmarks.compare.photos import jpeg, photo, png
from pixelserve.v1 import classifier_pb2 as pb


def test_a_drawn_photo_is_the_same_each_time_and_another_for_another_seed() -> None:
    one = photo(60, 45, 1)
    assert one.size == (60, 45)
    assert one.tobytes() == photo(60, 45, 1).tobytes() != photo(60, 45, 2).tobytes()


def test_files_are_what_their_names_say() -> None:
    drawn = photo(40, 30, 0)
    assert Image.open(io.BytesIO(jpeg(drawn))).format == "JPEG"
    assert Image.open(io.BytesIO(png(drawn))).tobytes() == drawn.tobytes()


@pytest.mark.slow
def test_the_loop_prints_its_rate_and_its_cpu_time(root: Path, tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(jpeg(photo(50, 40, 0)))
    command = [sys.executable, "-m", "benchmarks.compare.pictures", str(tmp_path), JPEGS, "0.1", "0.1"]
    said = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
    assert said["images_per_s"] > 0
    assert said["cpu_us"] > 0


class Answered:
    """A call that was answered."""

    def __init__(self, response: pb.ClassifyResponse) -> None:
        self._response = response

    def result(self) -> pb.ClassifyResponse:
        return self._response


def test_a_picture_that_was_not_classified_ends_the_measurement() -> None:
    good = pb.Result(classes=[pb.Class(index=1)])
    pictures._check(Answered(pb.ClassifyResponse(results=[good])))  # type: ignore[arg-type]
    with pytest.raises(LoadError, match="a picture was not classified: it is damaged"):
        pictures._check(  # type: ignore[arg-type]
            Answered(pb.ClassifyResponse(results=[good, pb.Result(error="it is damaged")]))
        )
