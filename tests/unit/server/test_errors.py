"""Messages about unreadable files."""

from pathlib import Path

import pytest

from pixelserve import card, golden
from pixelserve_server.errors import RepositoryError, unreadable
from pixelserve_server.repository import evidence

LABELS = Path("digits/labels.txt")


def test_the_remedy_of_a_file_that_is_forbidden_is_its_permissions() -> None:
    error = unreadable(LABELS, PermissionError(13, "Permission denied", str(LABELS)), "one class label a line")
    assert str(error) == "digits/labels.txt: cannot be read: Permission denied; make it readable for the server's user"


def test_of_a_file_that_does_not_exist_its_content_is_said() -> None:
    error = unreadable(LABELS, FileNotFoundError(2, "No such file or directory"), "one class label a line")
    assert error.problem == "cannot be read: No such file or directory; expected one class label a line"


def test_forbidden_golden_samples_need_no_new_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (card.CARD_FILE, card.GOLDEN_FILE):
        (tmp_path / name).touch()

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The administrator, as whom tests may run, may read everything.
    monkeypatch.setattr(evidence, "read_card", lambda _: None)
    monkeypatch.setattr(evidence, "verify_model_file", lambda *_: None)
    monkeypatch.setattr(golden, "read_arrays", forbid)
    with pytest.raises(RepositoryError, match=r"golden.npz: cannot be read: Permission denied; make it readable"):
        evidence.read_files(tmp_path, tmp_path / "model.onnx", {}, require_card=False)
