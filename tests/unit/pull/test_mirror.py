"""A pull writes a whole and verified model, or changes nothing."""

import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card, sha256_of
from pixelserve.external_data import external_hashes
from pixelserve.golden_picture import GoldenPicture, write_golden_picture
from pixelserve.onnx import model_pb2
from pixelserve.pull import mirror as mirror_module
from pixelserve.pull.errors import (
    ConflictError,
    DamagedError,
    SourceRefused,
    UnsafeSourceError,
    UsageError,
    WriteError,
)
from pixelserve.pull.mirror import Mirrored, Silent
from pixelserve.pull.publish import State

Pull = Callable[..., Mirrored]
Contents = Callable[[Path], dict[str, bytes]]


def names(folder: Path) -> list[str]:
    """Returns the names of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def write_graph_with_weights(path: Path, location: str) -> Path:
    """Writes a graph whose only tensor is in another file, and that file where it is beside the graph."""
    entry = model_pb2.StringStringEntryProto(key=b"location", value=location.encode())
    tensor = model_pb2.TensorProto(external_data=[entry], data_location=model_pb2.TensorProto.EXTERNAL)
    path.write_bytes(model_pb2.ModelProto(graph=model_pb2.GraphProto(initializer=[tensor])).SerializeToString())
    if "/" not in location:
        (path.parent / location).write_bytes(b"weights")
    return path


@pytest.fixture(params=["folder", "file", "memory", "http"])
def url(request: pytest.FixtureRequest, model: Path) -> str:
    """The model's URL at each kind of source."""
    match request.param:
        case "folder":
            return str(model)
        case "file":
            return model.as_uri()
        case "memory":
            return str(request.getfixturevalue("memory")(model))
        case _:
            return f"{request.getfixturevalue('web').url}/{model.name}"


def test_a_model_is_mirrored_whole(pull: Pull, model: Path, repository: Path, contents_of: Contents) -> None:
    (model / "2" / "parts").mkdir()
    (model / "2" / "parts" / "model data.bin").write_bytes(bytes(3_000_000))
    mirrored = pull(model)
    assert contents_of(repository) == {f"digits/{path}": data for path, data in contents_of(model).items()}
    assert mirrored.plan.versions == {1: State.ADDED, 2: State.ADDED}
    assert mirrored.plan.files == {"config.pbtxt": State.ADDED, "labels.txt": State.ADDED}
    assert mirrored.fetched_bytes == sum(map(len, contents_of(model).values()))


def test_every_kind_of_source_gives_the_same(
    pull: Pull, url: str, model: Path, repository: Path, contents_of: Contents
) -> None:
    pull(url + "/")
    assert contents_of(repository / "digits") == contents_of(model)
    assert names(repository) == ["digits"]


def test_what_is_there_and_equal_is_left_alone_and_its_model_is_not_fetched_again(
    pull: Pull, url: str, model: Path, repository: Path
) -> None:
    pull(url)
    before = [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(repository.rglob("*"))]
    again = pull(url)
    assert set(again.plan.versions.values()) | set(again.plan.files.values()) == {State.UNCHANGED}
    assert before == [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(repository.rglob("*"))]
    models = sum((model / version / "model.onnx").stat().st_size for version in "12")
    assert again.fetched_bytes == sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) - models


def test_a_damaged_model_that_is_there_is_fetched_again(pull: Pull, model: Path, repository: Path) -> None:
    pull(model)
    (repository / "digits" / "1" / "model.onnx").write_bytes(b"the third")
    with pytest.raises(ConflictError):
        pull(model)
    assert pull(model, replace=True).plan.versions == {1: State.REPLACED, 2: State.UNCHANGED}
    assert (repository / "digits" / "1" / "model.onnx").read_bytes() == b"the first"


def test_a_huge_card_that_is_there_is_taken_for_another_and_not_read(pull: Pull, model: Path, repository: Path) -> None:
    pull(model)
    with (repository / "digits" / "1" / "card.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConflictError):
        pull(model)


def test_new_versions_are_added_beside_the_old(
    pull: Pull, model: Path, repository: Path, tmp_path: Path, version_writer: Callable[..., Path]
) -> None:
    pull(model, versions=frozenset({1}))
    version_writer(repository / "digits" / "7", b"somebody else's")
    assert pull(model).plan.versions == {1: State.UNCHANGED, 2: State.ADDED}
    assert names(repository / "digits") == ["1", "2", "7", "config.pbtxt", "labels.txt"]


def test_a_version_with_other_content_is_refused_and_replaced_only_when_told(
    pull: Pull,
    model: Path,
    repository: Path,
    tmp_path: Path,
    version_writer: Callable[..., Path],
    contents_of: Contents,
) -> None:
    pull(model)
    before = contents_of(repository)
    version_writer(model / "2", b"another")
    (model / "labels.txt").write_text("eins\nzwei\ndrei\n")
    with pytest.raises(ConflictError, match=r"has a version 2 with other content, and nothing was changed.*--replace"):
        pull(model)
    assert contents_of(repository) == before
    mirrored = pull(model, replace=True)
    assert mirrored.plan.versions == {1: State.UNCHANGED, 2: State.REPLACED}
    assert mirrored.plan.files == {"config.pbtxt": State.UNCHANGED, "labels.txt": State.REPLACED}
    assert contents_of(repository / "digits") == contents_of(model)


@pytest.mark.parametrize("change", ["file more", "file fewer"])
def test_a_version_with_other_files_has_other_content(pull: Pull, model: Path, change: str) -> None:
    pull(model)
    if change == "file more":
        (model / "1" / "model.onnx.data").touch()
    else:
        (model / "1" / "golden.npz").unlink()
    with pytest.raises(ConflictError, match="version 1"):
        pull(model)


def test_only_the_versions_that_are_asked_for_come(pull: Pull, model: Path, repository: Path) -> None:
    pull(model, versions=frozenset({2}))
    assert names(repository / "digits") == ["2", "config.pbtxt", "labels.txt"]
    with pytest.raises(SourceRefused, match="has no version 3, 4; it has 1, 2"):
        pull(model, versions=frozenset({1, 3, 4}))


def test_another_name_is_written_into_the_configuration(pull: Pull, model: Path, repository: Path) -> None:
    pull(model, name="ciphers")
    assert names(repository) == ["ciphers"]
    assert 'name: "ciphers"' in (repository / "ciphers" / "config.pbtxt").read_text()
    assert pull(model, name="ciphers").plan.files["config.pbtxt"] is State.UNCHANGED


def test_a_configuration_of_another_model_needs_a_word(pull: Pull, model: Path) -> None:
    with pytest.raises(UsageError, match="names the model digits, the folder moved; say which with --name"):
        pull(model.rename(model.with_name("moved")))


@pytest.mark.parametrize("name", ["", ".hidden", "../out", "a/b", "-option"])
def test_an_invalid_folder_name_is_refused(pull: Pull, model: Path, tmp_path: Path, name: str) -> None:
    moved = shutil.copytree(model, tmp_path / ".bad")
    with pytest.raises(UsageError, match=r"expected letters, digits.*--name"):
        pull(moved, name=name)
    assert names(tmp_path) == [".bad", "source"]


def test_hidden_files_and_other_folders_stay_at_the_source(pull: Pull, model: Path, repository: Path) -> None:
    for name in (".git/config", "1/.cache", "configs/other.pbtxt", "01/model.onnx"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).touch()
    pull(model)
    assert names(repository / "digits") == ["1", "2", "config.pbtxt", "labels.txt"]
    assert names(repository / "digits" / "1") == ["card.json", "golden.npz", "model.onnx"]


def test_a_model_without_a_card_is_refused_only_where_one_is_required(
    pull: Pull, model: Path, repository: Path, tmp_path: Path, version_writer: Callable[..., Path]
) -> None:
    version_writer(model / "3", card=False)
    with pytest.raises(DamagedError, match=r"version 3 has no card\.json, and --require-card is on"):
        pull(model, require_card=True)
    assert not list(repository.rglob("*"))
    mirrored = pull(model)
    assert mirrored.evidence[3].summary == "unverified: no card.json"
    assert mirrored.evidence[1].summary.endswith("as its card says, 2 golden samples")


def test_a_version_without_golden_samples_is_taken(pull: Pull, model: Path) -> None:
    (model / "1" / "golden.npz").unlink()
    assert pull(model, require_card=True).evidence[1].summary.endswith("no golden.npz")


DAMAGES = [
    pytest.param("2/model.onnx", b"another", r"version 2: model\.onnx: SHA-256 is", id="another model than its card's"),
    pytest.param("2/model.onnx", None, r"version 2 has no model\.onnx", id="no model"),
    pytest.param("1/card.json", b"{}", r"version 1: card\.json: ", id="damaged card"),
    pytest.param("1/golden.npz", b"PK", r"version 1: golden\.npz: cannot be read", id="damaged golden samples"),
    pytest.param("config.pbtxt", b"max_batch_size: many", r"config\.pbtxt: 1:17", id="damaged configuration"),
    pytest.param("config.pbtxt", b"\xff", r"config\.pbtxt: .*protobuf text", id="configuration that is no text"),
    pytest.param(
        "config.pbtxt",
        b"#" * (256 << 10) + b"\n",
        r"config\.pbtxt: .*262,145 bytes; at most",
        id="a huge configuration",
    ),
    pytest.param("1/card.json", b" " * (5 << 20), r"card\.json: .*5,242,880 bytes; at most", id="huge card"),
    pytest.param("labels.txt", None, r"names the label file labels\.txt, which the source", id="no labels"),
    pytest.param(
        "config.pbtxt", b'output { label_filename: "../labels.txt" }', "the label file", id="labels somewhere else"
    ),
    pytest.param(
        "config.pbtxt", b'default_model_filename: "../1/model.onnx"', "not a file in the version", id="model elsewhere"
    ),
]


def test_golden_samples_that_unpack_to_too_much_are_refused(pull: Pull, model: Path, repository: Path) -> None:
    with zipfile.ZipFile(model / "1" / "golden.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for group in ("inputs", "outputs"):
            with archive.open(f"{group}/x.npy", "w") as member:
                for _ in range(130):
                    member.write(bytes(1 << 20))
    with pytest.raises(DamagedError, match=r"golden\.npz: .* unpacks to 272,629,760 bytes; at most 268,435,456"):
        pull(model)
    assert not list(repository.rglob("*"))


def test_a_golden_picture_is_taken_whole_or_the_version_is_refused(pull: Pull, model: Path, repository: Path) -> None:
    card = read_card(model / "1" / "card.json")
    card.model_copy(update={"picture": "fit=letterbox"}).write(model / "1" / "card.json")
    path = model / "1" / "golden-picture.npz"
    path.write_bytes(b"PK")
    with pytest.raises(DamagedError, match=r"version 1: golden-picture\.npz: cannot be read as a golden picture"):
        pull(model)
    assert not list(repository.rglob("*"))
    write_golden_picture(path, GoldenPicture(b"a file", np.zeros((2, 2, 1), np.uint8)))
    pull(model)
    assert (repository / "digits" / "1" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("path", "content", "said"), DAMAGES)
def test_a_damaged_model_is_refused_and_leaves_nothing(
    pull: Pull, model: Path, repository: Path, path: str, content: bytes | None, said: str
) -> None:
    (model / path).unlink()
    if content is not None:
        (model / path).write_bytes(content)
    with pytest.raises(DamagedError, match=said) as error:
        pull(model)
    assert str(error.value).startswith(str(model))
    assert ".pull" not in str(error.value)
    assert not list(repository.rglob("*"))


def test_a_graph_in_a_folder_with_its_weights_is_mirrored(
    pull: Pull, model: Path, repository: Path, contents_of: Contents
) -> None:
    (model / "2" / "model.onnx").unlink()
    (model / "2" / "model.onnx").mkdir()
    graph = write_graph_with_weights(model / "2" / "model.onnx" / "model.onnx", "weights.bin")
    card = read_card(model / "2" / "card.json")
    hashes = {"sha256": sha256_of(graph), "external_data": external_hashes(graph)}
    card.model_copy(update=hashes).write(model / "2" / "card.json")
    pull(str(model))
    assert contents_of(repository / "digits") == contents_of(model)
    (graph.parent / "weights.bin").write_bytes(b"others")
    with pytest.raises(DamagedError, match=r"weights\.bin: SHA-256 is"):
        pull(str(model), replace=True)


@pytest.mark.parametrize("card", [True, False], ids=["with a card", "without a card"])
def test_a_graph_whose_weights_are_elsewhere_is_refused(
    pull: Pull, model: Path, repository: Path, tmp_path: Path, version_writer: Callable[..., Path], card: bool
) -> None:
    shutil.rmtree(model / "2")
    graph = write_graph_with_weights(tmp_path / "graph", "../../../secret")
    version_writer(model / "2", graph.read_bytes(), card=card)
    with pytest.raises(DamagedError, match=r'version 2: model\.onnx: its weights are in "\.\./'):
        pull(str(model))
    assert not (repository / "digits").exists()


def test_a_model_file_of_another_name_is_verified(pull: Pull, model: Path) -> None:
    (model / "config.pbtxt").write_text('default_model_filename: "net.onnx"')
    for version in "12":
        (model / version / "model.onnx").rename(model / version / "net.onnx")
    assert pull(model).evidence[1].golden_samples == 2
    (model / "1" / "net.onnx").write_bytes(b"another")
    with pytest.raises(DamagedError, match="SHA-256"):
        pull(model, replace=True)


def test_a_check_sees_the_whole_model_under_its_name_and_may_refuse_it(
    pull: Pull, model: Path, repository: Path, contents_of: Contents
) -> None:
    seen: list[dict[str, bytes]] = []

    class RefusedError(Exception):
        exit_code = 1

    def check(folder: Path, versions: Any) -> dict[int, str]:
        assert (folder.name, list(versions)) == ("digits", [1, 2])
        seen.append(contents_of(folder))
        raise RefusedError(f"{folder}/1: golden outputs differ")

    with pytest.raises(DamagedError, match=rf"^{model}: 1: golden outputs differ$"):
        pull(model, check=check)
    assert seen == [contents_of(model)]
    assert not list(repository.rglob("*"))
    assert pull(model, check=lambda *_: {1: "yes", 2: "no"}).as_json()["versions"][0]["checked"] == "yes"


def test_a_check_that_fails_by_a_bug_is_not_taken_for_a_damaged_model(pull: Pull, model: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        pull(model, check=lambda *_: 1 / 0)


@pytest.mark.parametrize("at", ["nothing", "source", "source/digits/1", "source/digits/labels.txt"])
def test_a_folder_without_a_model_is_refused(
    pull: Pull, model: Path, tmp_path: Path, repository: Path, at: str
) -> None:
    with pytest.raises(SourceRefused, match=r"expected (a model's folder|the folder of a model)"):
        pull(tmp_path / at)
    assert not repository.exists()


def test_links_are_followed_within_the_model(pull: Pull, model: Path, repository: Path) -> None:
    # How Kubernetes mounts files.
    (model / "..data").mkdir()
    (model / "labels.txt").rename(model / "..data" / "labels.txt")
    (model / "labels.txt").symlink_to("..data/labels.txt")
    pull(model)
    assert (repository / "digits" / "labels.txt").read_text() == "one\ntwo\nthree\n"
    assert not (repository / "digits" / "labels.txt").is_symlink()


@pytest.mark.parametrize("link", ["notes.txt", "1/notes.txt", "3"])
def test_links_out_of_the_model_are_refused(
    pull: Pull, model: Path, tmp_path: Path, repository: Path, link: str
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "model.onnx").touch()
    (model / link).symlink_to(tmp_path / "secret" / ("model.onnx" if "." in link else ""))
    with pytest.raises(UnsafeSourceError, match="is a link that leads out of"):
        pull(model)
    assert not repository.exists()


def test_special_files_are_refused(pull: Pull, model: Path) -> None:
    # Reading it would block forever.
    os.mkfifo(model / "1" / "pipe")
    with pytest.raises(UnsafeSourceError, match="neither a file nor a folder"):
        pull(model)


@pytest.mark.parametrize("at", ["digits/1", "models"])
def test_a_repository_that_cannot_be_written_is_named(pull: Pull, model: Path, repository: Path, at: str) -> None:
    if at == "models":
        repository.touch()
    else:
        # A file where a version belongs.
        (repository / "digits").mkdir(parents=True)
        (repository / "digits" / "1").touch()
    with pytest.raises(
        (WriteError, ConflictError), match=r"cannot be written: File exists|version 1 with other content"
    ):
        pull(model)


class Gate(Silent):
    """Stops at the first bytes until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened, self.waited = threading.Event(), threading.Event(), threading.Event()

    def on_bytes(self, count: int) -> None:
        self.reached.set()
        assert self.opened.wait(30)

    def on_wait(self, model: str) -> None:
        assert model == "digits"
        self.waited.set()


def test_two_pulls_of_a_model_at_once_come_one_after_the_other(pull: Pull, model: Path, repository: Path) -> None:
    """A second pull waits for the first one.

    1. The first one holds the lock and has fetched its first bytes.
    2. The second one finds the lock taken.
    3. The first one continues; the second one then finds everything there.
    """
    gates, results = [Gate(), Gate()], dict[int, Mirrored]()
    threads = [
        threading.Thread(target=lambda number=number, gate=gate: results.update({number: pull(model, gate)}))
        for number, gate in enumerate(gates)
    ]
    threads[0].start()
    assert gates[0].reached.wait(30)
    threads[1].start()
    assert gates[1].waited.wait(30)
    assert not gates[1].reached.is_set()
    for gate in gates:
        gate.opened.set()
    for thread in threads:
        thread.join(30)
    assert results[0].plan.versions == {1: State.ADDED, 2: State.ADDED}
    assert results[1].plan.versions == {1: State.UNCHANGED, 2: State.UNCHANGED}
    assert names(repository) == ["digits"]


def test_pulls_of_different_models_do_not_wait_for_each_other(pull: Pull, model: Path, repository: Path) -> None:
    gate = Gate()
    first = threading.Thread(target=pull, args=(model, gate))
    first.start()
    assert gate.reached.wait(30)
    pull(model, name="other")
    gate.opened.set()
    first.join(30)
    assert names(repository) == ["digits", "other"]


def test_what_a_killed_pull_has_left_is_removed_by_the_next(pull: Pull, model: Path, repository: Path) -> None:
    (repository / ".digits.pull" / "digits" / "9").mkdir(parents=True)
    (repository / ".digits.pull.lock").touch()
    pull(model)
    assert names(repository) == ["digits"]
    assert not (repository / "digits" / "9").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_pull_and_leaves_nothing(
    pull: Pull, model: Path, repository: Path, number: signal.Signals
) -> None:
    class Signalling(Silent):
        def on_bytes(self, count: int) -> None:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        pull(model, Signalling())
    assert not list(repository.rglob("*"))
    assert signal.getsignal(number) is before


def test_a_signal_does_not_interrupt_what_has_to_be_finished(
    pull: Pull, model: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = mirror_module.publish

    def signalled(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        publish(*arguments)

    monkeypatch.setattr(mirror_module, "publish", signalled)
    pull(model)
    assert names(repository) == ["digits"]


def test_a_disk_that_is_full_leaves_nothing(pull: Pull, model: Path, repository: Path) -> None:
    class Full(Silent):
        def on_bytes(self, count: int) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match="cannot be written: No space left on device; nothing half-written was left"):
        pull(model, Full())
    assert not list(repository.rglob("*"))
