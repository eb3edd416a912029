"""A folder of a user's images as a data set, and its errors."""

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.spec import PictureSpec
from pixelserve_training.datasets import hold_out, own
from pixelserve_training.errors import DataError, UsageError
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import job, kept
from pixelserve_training.running.resume import Request

Command = Callable[..., Any]
PICTURES = PictureSpec(28, 28, 1)


def draw(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten cats, and five dogs of which some lie deeper."""
    root = tmp_path / "pets"
    for number in range(10):
        draw(root / "cat" / f"{number}.png", number)
    for number in range(5):
        draw(root / "dog" / ("old" if number % 2 else ".") / f"{number}.PNG", 100 + number)
    return root


def test_the_folders_names_are_the_labels_and_a_fifth_of_each_class_is_held_out(
    pets: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = own.load(pets, PICTURES, skip_broken=False)
    assert (dataset.name, dataset.task, dataset.labels) == ("pets", "image", ("cat", "dog"))
    assert dataset.train.inputs.shape == (12, 28, 28, 1)
    assert dataset.train.inputs.dtype == np.uint8
    assert sorted(dataset.test.targets.tolist()) == [0, 0, 1]
    assert "15 pictures of 2 classes; 3 of them, a fixed fifth of each class" in capfd.readouterr().err


def test_the_held_out_pictures_are_the_same_whatever_the_files_are_called(pets: Path) -> None:
    before = own.load(pets, PICTURES, skip_broken=False)
    for path in (pets / "cat").iterdir():
        path.rename(path.with_stem(f"{9 - int(path.stem)}-renamed"))
    after = own.load(pets, PICTURES, skip_broken=False)
    np.testing.assert_array_equal(after.test.inputs, before.test.inputs)
    assert after.sha256 != before.sha256


def test_another_picture_gives_another_hash(pets: Path) -> None:
    before = own.load(pets, PICTURES, skip_broken=False).sha256
    assert own.load(pets, PICTURES, skip_broken=False).sha256 == before
    draw(pets / "cat" / "0.png", 77)
    assert own.load(pets, PICTURES, skip_broken=False).sha256 != before


def test_labels_of_many_classes_do_not_wrap(tmp_path: Path) -> None:
    for label in range(257):
        draw(tmp_path / f"{label:03}" / "a.png", label, (4, 4))
        draw(tmp_path / f"{label:03}" / "b.png", 1000 + label, (4, 4))
    dataset = own.load(tmp_path, PictureSpec(4, 4, 3), skip_broken=False)
    assert dataset.train.targets.max() == 256


def test_files_that_are_no_pictures_are_left_out_and_counted(pets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (pets / "cat" / "notes.txt").touch()
    (pets / "cat" / "IMG_1.heic").touch()
    (pets / "cat" / ".DS_Store").touch()
    (pets / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    (pets / "cat" / "Thumbs.db").touch()
    (pets / "cat" / "@eaDir").mkdir()
    (pets / "cat" / "gone.png").symlink_to("nowhere")
    for system in (".git", "__MACOSX"):
        (pets / system).mkdir()
    draw(pets / "loose.png", 1)
    dataset = own.load(pets, PICTURES, skip_broken=False)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.train.targets) + len(dataset.test.targets) == 15
    said = capfd.readouterr().err
    assert f"note: skipped in {pets / 'cat'}: 2 without a picture's extension (" in said
    assert ".heic" in said
    assert "; 4 hidden or system files (such as ._NAME, .DS_Store, Thumbs.db); 1 not files" in said
    assert f"note: 1 files directly in {pets} are ignored" in said
    assert f"in {pets / 'dog'}" not in said


def test_nothing_is_said_of_classes_that_are_alike_in_size_and_hold_no_others_pictures(
    pets: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own.load(pets, PICTURES, skip_broken=False)
    assert "note:" not in capfd.readouterr().err


def test_a_picture_in_two_classes_is_named(pets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copy(pets / "cat" / "3.png", pets / "dog" / "copy.png")
    # The same pixels in another file.
    with Image.open(pets / "cat" / "4.png") as image:
        image.save(pets / "dog" / "resaved.png", compress_level=0)
    own.load(pets, PICTURES, skip_broken=False)
    said = capfd.readouterr().err
    assert "note: 2 pictures are in two classes, or look the same at the network's size: " in said
    assert f"{pets / 'cat' / '3.png'} and {pets / 'dog' / 'copy.png'}" in said


def test_classes_of_very_different_size_are_mentioned(pets: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(50):
        draw(pets / "cat" / f"more-{number}.png", 500 + number)
    own.load(pets, PICTURES, skip_broken=False)
    assert "note: cat has 60 pictures and dog has 5: always predicting cat is right 92%" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("training",), r"training: splits of a data set, not classes; expected train beside test or val; or give one"),
        (("test", "val"), r"test, val: splits of a data set, not classes"),
        (("train", "test", "testing"), r"test, testing, train: two of them mean the same split; keep one of each"),
    ],
)
def test_incomplete_splits_are_not_learned_as_classes(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    for number, name in enumerate(names):
        draw(tmp_path / name / "cat" / "a.png", number)
    with pytest.raises(DataError, match=said):
        own.load(tmp_path, PICTURES, skip_broken=False)


def test_a_class_may_be_called_like_a_split(pets: Path) -> None:
    (pets / "cat").rename(pets / "train")
    assert own.load(pets, PICTURES, skip_broken=False).labels == ("dog", "train")


def test_a_picture_without_permission_is_named_with_its_remedy(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def deny(path: Path) -> bytes:
        if path.name == "3.png":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    # The administrator, as whom tests may run, may read everything.
    monkeypatch.setattr(Path, "read_bytes", deny)
    with pytest.raises(DataError, match=r"cat/3.png \(Permission denied\); repair \(check the permissions\) or remove"):
        own.load(pets, PICTURES, skip_broken=False)


def test_a_file_given_as_the_folder_is_named(pets: Path) -> None:
    with pytest.raises(
        UsageError, match=r"0.png is a file; give a folder that holds a folder of pictures for each class, a .csv file"
    ):
        own.load(pets / "cat" / "0.png", PICTURES, skip_broken=False)


def test_a_wrong_path_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="typo: no such folder or file; give a folder that holds"):
        own.load(tmp_path / "typo", PICTURES, skip_broken=False)


def test_a_folder_without_folders_is_refused(pets: Path) -> None:
    with pytest.raises(DataError, match=r"no folders in it; expected one for each class"):
        own.load(pets / "cat", PICTURES, skip_broken=False)


def test_a_single_class_is_refused(pets: Path) -> None:
    shutil.rmtree(pets / "dog")
    with pytest.raises(DataError, match=r"one folder in it \(cat\); expected one for each class, at least two"):
        own.load(pets, PICTURES, skip_broken=False)


def test_a_class_without_pictures_is_named(pets: Path) -> None:
    (pets / "owl").mkdir()
    with pytest.raises(DataError, match=r"pets/owl: no pictures in it"):
        own.load(pets, PICTURES, skip_broken=False)


def test_a_class_with_a_single_picture_is_named(pets: Path) -> None:
    draw(pets / "owl" / "only.png", 1)
    with pytest.raises(DataError, match=r"pets: owl has 1 readable pictures; expected at least 2"):
        own.load(pets, PICTURES, skip_broken=False)


def test_a_name_that_cannot_be_a_line_of_the_labels_is_named(pets: Path) -> None:
    draw(pets / "two\nlines" / "a.png", 1)
    with pytest.raises(DataError, match=r"the folder 'two\\nlines' cannot be a label; rename it"):
        own.load(pets, PICTURES, skip_broken=False)


def bomb(path: Path) -> None:
    """Writes a PNG whose header claims 20,000 × 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))


def large(path: Path) -> None:
    """Writes a picture of more pixels than are taken, and fewer than Pillow itself minds."""
    Image.new("1", (10_000, 6_000)).save(path)


def truncate(path: Path) -> None:
    draw(path, 1)
    path.write_bytes(path.read_bytes()[:-1000])


def write_text(path: Path) -> None:
    path.write_text("no picture")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (write_text, r"this is text, which cannot be read as a picture"),
        (truncate, r"the picture is damaged"),
        (bomb, r"the picture has too many pixels"),
        (large, r"the picture is 10000 × 6000 = 60,000,000 pixels; at most 50,000,000"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named_or_skipped(
    pets: Path, damage: Callable[[Path], None], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(pets / "dog" / "broken.png")
    with pytest.raises(DataError, match=rf"1 of 16 pictures cannot be read: .*dog/broken\.png \({why}.*--skip-broken"):
        own.load(pets, PICTURES, skip_broken=False)
    assert len(own.load(pets, PICTURES, skip_broken=True).train.targets) == 12
    assert "skipped 1 of 16 pictures, which cannot be read: " in capfd.readouterr().err


def test_many_broken_pictures_are_counted_and_the_first_ones_named(pets: Path) -> None:
    for number in range(5):
        (pets / "cat" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        own.load(pets, PICTURES, skip_broken=False)
    message = str(raised.value)
    assert "5 of 15 pictures" in message
    assert message.count("cat/") == 3
    assert "…" in message


def test_where_all_of_a_class_is_skipped_the_class_is_named(pets: Path) -> None:
    for path in (pets / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"pets: cat has 0 readable pictures"):
        own.load(pets, PICTURES, skip_broken=True)


def test_pictures_are_read_before_training_begins(pixelserve: Command, pets: Path, tmp_path: Path) -> None:
    (pets / "cat" / "0.png").write_bytes(b"")
    ran = pixelserve("train", "mnist-cnn", "--images", pets, "--run-dir", tmp_path / "run")
    assert ran.exit_code == 2
    assert "cat/0.png" in ran.err
    assert "training mnist-cnn" not in ran.err


def prepare(pets: Path, run: Path, **overrides: Any) -> KerasRecipe:
    request = Request(overrides, images=pets)
    recipe = job.prepare("mnist-cnn", None, run, request, resumed=False).recipe
    assert isinstance(recipe, KerasRecipe)
    return recipe


def test_few_pictures_get_more_epochs_unless_their_number_is_chosen(
    pets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert prepare(pets, tmp_path / "run", batch_size=5).epochs == 167
    assert "167 epochs, because 12 pictures make few steps per epoch" in capfd.readouterr().err
    assert prepare(pets, tmp_path / "run", batch_size=5, epochs=2).epochs == 2


def test_an_average_over_few_steps_forgets_the_initial_weights(pets: Path, tmp_path: Path) -> None:
    assert prepare(pets, tmp_path / "run", batch_size=4, epochs=10).optimizer.averaging == pytest.approx(1 - 4 / 30)
    assert prepare(pets, tmp_path / "run", batch_size=12, epochs=1).optimizer.averaging == 0
    assert prepare(pets, tmp_path / "run", batch_size=1, epochs=10_000).optimizer.averaging == 0.999


def test_skipping_needs_pictures(pixelserve: Command, data_dir: Path) -> None:
    ran = pixelserve("train", "mnist-cnn", "--data-dir", data_dir, "--skip-broken")
    assert ran.exit_code == 2
    assert "--skip-broken is for your own pictures" in ran.err


def test_most_pictures_that_are_held_out_stay_held_out_when_the_folder_grows(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for number in range(40):
        draw(root / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    before = hold_out(own.load(root, PICTURES, skip_broken=False).train, 0.25)
    for number in range(40, 50):
        draw(root / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    after = hold_out(own.load(root, PICTURES, skip_broken=False).train, 0.25)
    learned = {picture.tobytes() for picture in before[0].inputs}
    assert len(after[1]) == 10
    assert sum(picture.tobytes() in learned for picture in after[1].inputs) <= 3


def test_a_run_keeps_the_pictures_that_it_held_out(pets: Path, tmp_path: Path) -> None:
    dataset = own.load(pets, PICTURES, skip_broken=False)
    run = tmp_path / "run"
    run.mkdir()
    kept.write(run, dataset, held_out=0.25)
    found, expected = kept.read_held_out(run), hold_out(dataset.train, 0.25)[1]
    assert len(found) == 3
    np.testing.assert_array_equal(found.inputs, expected.inputs)
    np.testing.assert_array_equal(found.targets, expected.targets)
