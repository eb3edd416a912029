"""A user's own pictures from a folder in splits, a CSV file and an .npz file, and their errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelserve.imaging.spec import PictureSpec
from pixelserve_training.datasets import hold_out, own
from pixelserve_training.datasets.own import pictures
from pixelserve_training.errors import DataError, UsageError

PICTURES = PictureSpec(8, 12, 3)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)


def draw_splits(root: Path, **counts: int) -> Path:
    """Draws so many pictures of each of two classes in each split."""
    for place, (split, count) in enumerate(counts.items()):
        for number in range(count):
            draw(root / split / "cat" / f"{number}.png", 1000 * place + number)
            draw(root / split / "dog" / f"{number}.png", 1000 * place + 500 + number)
    return root


def test_a_folder_in_splits_is_learned_validated_and_tested_as_its_owner_cut_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = draw_splits(tmp_path / "pets", train=3, val=2, test=1)
    (root / "notes").mkdir()
    dataset = own.load(root, PICTURES, skip_broken=False)
    learned, held_out = hold_out(dataset.train, 0.5)
    assert (len(learned), len(held_out), len(dataset.test)) == (6, 4, 2)
    assert dataset.labels == ("cat", "dog")
    assert "in the splits that they came in" in dataset.note
    with Image.open(root / "val" / "cat" / "0.png") as image:
        expected = image.convert("RGB").getpixel((0, 0))
    shown = own.load(root, PictureSpec(10, 12, 3), skip_broken=False)
    assert tuple(hold_out(shown.train, 0.0)[1].inputs[0, 0, 0]) == expected
    said = capfd.readouterr().err
    assert f"note: ignored in {root}, which holds a data set in splits: notes" in said
    assert "2 of them, in the splits that they came in, are held out as the test split, and 4 for validation" in said


def test_without_a_test_split_the_validation_split_takes_its_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = own.load(draw_splits(tmp_path, train=3, valid=2), PICTURES, skip_broken=False)
    assert (len(dataset.train), len(dataset.test), dataset.train.validation) == (6, 4, None)
    assert "has no test split; its validation split takes that place" in capfd.readouterr().err


def test_a_class_that_a_split_lacks_is_named(tmp_path: Path) -> None:
    draw_splits(tmp_path, train=2, test=2)
    draw(tmp_path / "test" / "owl" / "a.png", 7)
    with pytest.raises(DataError, match=r"no training pictures of owl; expected each class in each split"):
        own.load(tmp_path, PICTURES, skip_broken=False)


def test_a_picture_in_two_splits_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw_splits(tmp_path, train=2, test=2)
    (tmp_path / "test" / "cat" / "copy.png").write_bytes((tmp_path / "train" / "cat" / "0.png").read_bytes())
    own.load(tmp_path, PICTURES, skip_broken=False)
    said = capfd.readouterr().err
    assert "note: 1 pictures are in two splits, or look the same at the network's size: " in said
    assert "copy.png" in said


def test_pictures_that_exceed_the_memory_are_refused_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = draw_splits(tmp_path, train=3, test=3)
    (root / "train" / "cat" / "0.png").write_bytes(b"never read")
    monkeypatch.setattr(pictures, "MOST_BYTES", 12 * 4 * 4 * 3)
    with pytest.raises(DataError, match=r"12 pictures of 8 × 12 × 3 take .* choose a smaller --size \(4 fits\)"):
        own.load(root, PICTURES, skip_broken=False)


def write_table(root: Path, *lines: str) -> Path:
    for number in range(4):
        draw(root / "photos" / f"{number}.png", number)
    file = root / "labels.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


ROWS = ("photos/0.png,cat", "photos/1.png,cat", "photos/2.png,dog", "photos/3.png,dog")


@pytest.mark.parametrize("head", ["path,label", "Filename,Class"])
def test_a_table_lists_paths_and_labels(tmp_path: Path, head: str) -> None:
    dataset = own.load(write_table(tmp_path, head, *ROWS), PICTURES, skip_broken=False)
    assert (dataset.name, dataset.labels) == ("labels", ("cat", "dog"))
    assert (len(dataset.train), len(dataset.test)) == (2, 2)


def test_a_table_may_have_splits_other_columns_and_semicolons(tmp_path: Path) -> None:
    rows = [f"x;{row.replace(',', ';')};{'test' if number % 2 else 'train'}" for number, row in enumerate(ROWS)]
    dataset = own.load(write_table(tmp_path, "note;path;label;split", *rows), PICTURES, skip_broken=False)
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
    assert dataset.test.targets.tolist() == [0, 1]


def test_numbers_as_labels_are_in_their_order(tmp_path: Path) -> None:
    rows = ("photos/0.png,10", "photos/1.png,10", "photos/2.png,9", "photos/3.png,9")
    assert own.load(write_table(tmp_path, "path,label", *rows), PICTURES, skip_broken=False).labels == ("9", "10")


def test_another_label_of_a_picture_gives_another_hash(tmp_path: Path) -> None:
    first = own.load(write_table(tmp_path, "path,label", *ROWS), PICTURES, skip_broken=False).sha256
    swapped = [row.replace("cat", "dog") if "1." in row else row.replace("dog", "cat", "2." in row) for row in ROWS]
    assert own.load(write_table(tmp_path, "path,label", *swapped), PICTURES, skip_broken=False).sha256 != first


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("file name,label", *ROWS), r"no column path; its first line names file name, label, and expected is one of"),
        (("path,name", *ROWS), r"no column label; its first line names path, name"),
        (("path,label",), r"no rows below the first line"),
        (("path,label", "photos/0.png,"), r"line 2 has no label; complete it"),
        (("path,label", ",cat"), r"line 2 has no path; complete it"),
        (("path,label", "../other/0.png,cat"), r"line 2: \.\./other/0\.png is outside .*; expected a path from there"),
        (("path,label", "/etc/hostname,cat"), r"line 2: /etc/hostname is outside"),
        (("path,label", *ROWS, "photos/9.png,cat"), r"1 of 5 pictures do not exist: photos/9.png \(line 6\)"),
        (("path,label", *ROWS, "photos/0.png,dog"), r"photos/0.png is in lines 2 and 6; keep one of them"),
        (("path,label", *ROWS[:2]), r"the only label is cat; expected at least two"),
        (("path,label,split", f"{ROWS[0]},holidays"), r'line 2: the split "holidays"; expected one of train'),
        (
            ("path,label,split", f"{ROWS[0]},train", f"{ROWS[1]},train", f"{ROWS[2]},test"),
            r"dog: labels of no training picture",
        ),
    ],
)
def test_a_bad_table_is_explained(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        own.load(write_table(tmp_path, *lines), PICTURES, skip_broken=False)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"labels.csv: cannot be read: .*expected a CSV file in UTF-8"):
        own.load(file, PICTURES, skip_broken=False)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pets.zip"
    file.touch()
    with pytest.raises(UsageError, match=r"pets.zip is a file; give a folder .*, a .csv file .*, or an .npz file"):
        own.load(file, PICTURES, skip_broken=False)


X = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
Y = np.array([0, 1, 0, 1, 0, 1])


def write_npz(root: Path, **arrays: np.ndarray) -> Path:
    np.savez(root / "pets.npz", **arrays)
    return root / "pets.npz"


def test_an_npz_file_holds_pixels_and_labels(tmp_path: Path) -> None:
    file = write_npz(tmp_path, x=X, y=Y, classes=np.array(["cat", "dog"]))
    dataset = own.load(file, PictureSpec(10, 12, 3), skip_broken=False)
    assert (dataset.name, dataset.labels, len(dataset.train), len(dataset.test)) == ("pets", ("cat", "dog"), 4, 2)
    assert {picture.tobytes() for picture in X} == {
        picture.tobytes() for picture in [*dataset.train.inputs, *dataset.test.inputs]
    }


def test_an_npz_file_in_splits_is_used_as_it_is(tmp_path: Path) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_val": X[:2] // 2, "y_val": Y[:2], "x_test": 255 - X, "y_test": Y}
    dataset = own.load(write_npz(tmp_path, **arrays), PictureSpec(10, 12, 3), skip_broken=False)
    assert [len(split) for split in (*hold_out(dataset.train, 0.0), dataset.test)] == [6, 2, 6]
    np.testing.assert_array_equal(dataset.test.inputs, 255 - X)
    assert dataset.labels == ("0", "1")


def test_pixels_of_another_size_and_colour_are_prepared_as_a_servers(tmp_path: Path) -> None:
    grey = own.load(write_npz(tmp_path, x=X[..., 0], y=Y), PictureSpec(5, 6, 1), skip_broken=False)
    assert grey.train.inputs.shape == (4, 5, 6, 1)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": X, "b": Y}, r"no arrays x and y, or x_train and y_train; it has a, b"),
        ({"x": X}, r"x without y; expected both for the train split"),
        ({"x": X[:, 0, 0], "y": Y}, r"the train pictures have the shape \[6, 3\]; expected"),
        ({"x": X[..., :2], "y": Y}, r"the shape \[6, 10, 12, 2\]; expected"),
        ({"x": X, "y": Y[:3]}, r"the train labels are int64 \[3\]; expected a number or a name for each of 6"),
        (
            {"x": X * np.nan, "y": Y},
            r"the train pictures are float64 from nan to nan; expected levels of 0 to 255",
        ),
        ({"x": X / 255, "y": Y}, r"the train pictures are float64 from 0 to 1; expected levels of 0 to 255"),
        ({"x": X, "y": Y, "classes": np.array(["cat"])}, r"a label is 1; classes has names for 0 to 0"),
        ({"x": X, "y": Y * 0}, r"the only label is 0; expected at least two"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, r"2: labels of no training picture"),
    ],
)
def test_a_bad_npz_file_is_explained(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        own.load(write_npz(tmp_path, **arrays), PICTURES, skip_broken=False)


def test_a_damaged_npz_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pets.npz"
    file.write_bytes(b"PK nothing else")
    with pytest.raises(DataError, match=r"pets.npz: cannot be read as an .npz file"):
        own.load(file, PICTURES, skip_broken=False)
