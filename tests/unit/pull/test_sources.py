"""Untrusted servers' listings and files: none causes harm, and each failure names its cause."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pytest

from pixelserve.pull import listing
from pixelserve.pull.errors import (
    MissingPackageError,
    PullError,
    SourceFailed,
    SourceRefused,
    SourceUnavailable,
    UnsafeSourceError,
    UsageError,
)
from pixelserve.pull.listing import list_model
from pixelserve.pull.mirror import Mirrored
from pixelserve.pull.sources import Entry, FsspecSource, open_source, redacted

Pull = Callable[..., Mirrored]
GIB = 1 << 30


class Scripted:
    """A source with a given list of files, all empty."""

    shown, name, root = "scripted", "digits", ""

    def __init__(self, **folders: list[Entry]) -> None:
        self.folders = {"": [Entry("1", "one", is_folder=True)], **folders}

    def entries(self, folder: str) -> list[Entry]:
        return self.folders[folder]

    def size(self, key: str) -> int | None:
        return 0

    opened = read = None


NAMES = ["..", ".", "", "../labels.txt", "/etc/passwd", "a/b", "..\\x", "a\nb", "\x1b[2J", "a\0b"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_that_leads_out_of_its_folder_is_refused(name: str, is_folder: bool) -> None:
    bad = [Entry("model.onnx", "model", is_folder=False), Entry(name, "bad", is_folder)]
    with pytest.raises(UnsafeSourceError, match="is not the name of a file; nothing was fetched"):
        list_model(Scripted(one=bad), max_bytes=GIB)  # type: ignore[arg-type]
    with pytest.raises(UnsafeSourceError, match="is not the name of a file"):
        list_model(Scripted(**{"": bad}), max_bytes=GIB)  # type: ignore[arg-type]


def test_a_name_that_is_listed_twice_is_refused() -> None:
    twice = [Entry("model.onnx", "a", is_folder=False), Entry("model.onnx", "b", is_folder=True)]
    with pytest.raises(UnsafeSourceError, match="lists a name twice"):
        list_model(Scripted(one=twice), max_bytes=GIB)  # type: ignore[arg-type]


def test_a_listing_that_leads_in_a_circle_ends() -> None:
    circle = [Entry("deeper", "one", is_folder=True)]
    with pytest.raises(UnsafeSourceError, match="is deeper than 8 folders"):
        list_model(Scripted(one=circle), max_bytes=GIB)  # type: ignore[arg-type]


def test_more_files_than_a_model_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_MAX_FILES", 3)
    files = [Entry(str(number), str(number), is_folder=False) for number in range(4)]
    assert len(list_model(Scripted(one=files[:3]), max_bytes=GIB).files) == 3  # type: ignore[arg-type]
    with pytest.raises(UnsafeSourceError, match="lists more than 3 files"):
        list_model(Scripted(one=files), max_bytes=GIB)  # type: ignore[arg-type]


PAGES = [
    pytest.param('<a href="%2e%2e%2fevil">', id="encoded way up"),
    pytest.param('<a href="x/../../../evil">', id="a way up inside of a link"),
    pytest.param('<a href="%2Fetc%2Fevil">', id="encoded absolute path"),
    pytest.param('<a href="x%00evil">', id="a zero byte"),
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_links_that_lead_astray_is_refused(
    pull: Pull, web: Any, tmp_path: Path, repository: Path, page: str
) -> None:
    web.answer("GET /digits/1/", f'<a href="model.onnx"></a>{page}</a>'.encode())
    with pytest.raises(UnsafeSourceError, match="is not the name of a file"):
        pull(f"{web.url}/digits")
    assert not list(tmp_path.rglob("*evil*"))
    assert not repository.exists()


def test_links_of_an_index_page_that_are_no_files_are_passed_over(pull: Pull, web: Any) -> None:
    # What nginx, Apache and Caddy have beside the files: to sort, to go up, the page itself, and elsewhere.
    links = ["../", "?C=N;O=D", "./?sort=name", "/", "/digits/", "./", "../../", "https://example.org/", "#top"]
    files = ["./1/", "/digits/labels.txt", "config.pbtxt"]
    page = "".join(f'<a href="{link}">{link}</a>' for link in links + files)
    web.answer("GET /digits/", page.encode())
    mirrored = pull(f"{web.url}/digits")
    assert list(mirrored.plan.versions) == [1]
    assert list(mirrored.plan.files) == ["config.pbtxt", "labels.txt"]


def test_names_are_decoded_as_they_are_encoded_in_links(pull: Pull, web: Any, model: Path, repository: Path) -> None:
    (model / "1" / "größe 50%.txt").write_text("?")
    pull(f"{web.url}/digits")
    assert (repository / "digits" / "1" / "größe 50%.txt").read_text() == "?"


def test_what_is_larger_than_allowed_is_refused_before_it_is_fetched(
    pull: Pull, web: Any, model: Path, repository: Path
) -> None:
    (model / "2" / "model.onnx").write_bytes(bytes(2 << 20))
    with pytest.raises(UnsafeSourceError, match="have more than 1 MiB; raise --max-mib"):
        pull(f"{web.url}/digits", max_bytes=1 << 20)
    assert not [request for request in web.requests if "GET" in request and "model" in request]
    assert not repository.exists()


def test_what_turns_out_to_be_larger_than_announced_is_cut_short(pull: Pull, web: Any, repository: Path) -> None:
    web.answer("HEAD /digits/2/model.onnx", b"", length=10)
    web.answer("GET /digits/2/model.onnx", bytes(3 << 20))
    with pytest.raises(UnsafeSourceError, match="have more than 1 MiB"):
        pull(f"{web.url}/digits", max_bytes=1 << 20)
    assert not list(repository.rglob("*"))


def test_a_web_server_that_does_not_say_how_large_a_file_is_will_do(pull: Pull, web: Any, repository: Path) -> None:
    def chunked(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"" if handler.command == "HEAD" else b"the second")

    web.faults |= {f"{method} /digits/2/model.onnx": chunked for method in ("HEAD", "GET")}
    pull(f"{web.url}/digits")
    assert (repository / "digits" / "2" / "model.onnx").read_bytes() == b"the second"


CUTS = [
    pytest.param({"length": 100}, b"the sec", r"digits/2/model\.onnx failed", id="the connection ends"),
    pytest.param({}, b"the sec", r"2/model\.onnx has 10 bytes, and 7 came", id="fewer than announced"),
    pytest.param({}, b"the second one", r"2/model\.onnx has 10 bytes, and 14 came", id="more than announced"),
    pytest.param({"status": 500}, b"", r"digits/2/model\.onnx failed: 500", id="the server fails"),
]


@pytest.mark.parametrize(("how", "body", "said"), CUTS)
def test_a_download_that_fails_half_way_leaves_nothing(
    pull: Pull, web: Any, repository: Path, how: dict[str, int], body: bytes, said: str
) -> None:
    web.answer("GET /digits/2/model.onnx", body, **how)
    with pytest.raises(SourceFailed, match=said):
        pull(f"{web.url}/digits")
    assert not list(repository.rglob("*"))


def test_a_file_that_goes_between_listing_and_fetching_is_named(pull: Pull, web: Any, repository: Path) -> None:
    web.answer("GET /digits/labels.txt", b"", status=404)
    with pytest.raises(SourceRefused, match=r"digits/labels\.txt: there is no such file"):
        pull(f"{web.url}/digits")
    assert not list(repository.rglob("*"))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, SourceRefused), (403, SourceRefused), (404, SourceRefused), (500, SourceFailed)]
)
def test_a_refusal_is_distinguished_from_a_failure(pull: Pull, web: Any, status: int, kind: type[PullError]) -> None:
    web.answer("GET /digits/", b"", status=status)
    with pytest.raises(kind, match=f"^{web.url}/digits/"):
        pull(f"{web.url}/digits")


def test_a_web_server_without_an_index_page_is_named(pull: Pull, web: Any) -> None:
    web.answer("GET /digits/", b"<p>Welcome</p>")
    web.answer("GET /digits", b"<p>Welcome</p>")
    with pytest.raises(SourceRefused, match=r"lists no version folder; .* over HTTP with an index page"):
        pull(f"{web.url}/digits")


def test_a_source_that_does_not_answer_may_do_so_later(pull: Pull) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailable, match=r"does not answer: .*; look at the address, or try again"):
            pull(f"http://name:password@127.0.0.1:{held.getsockname()[1]}/digits")


def test_a_source_that_goes_while_it_is_asked_for_sizes_is_unavailable() -> None:
    source = open_source("memory://bucket/digits")
    assert isinstance(source, FsspecSource)
    with pytest.raises(SourceUnavailable, match="does not answer"), source._reading("key"):
        # What fsspec makes of a connection that is refused.
        raise FileNotFoundError("key") from ConnectionRefusedError("nobody")


class ClientError(Exception):
    """As botocore's."""

    def __init__(self, status: int) -> None:
        super().__init__("an error occurred")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class HttpError(Exception):
    """As gcsfs's."""

    def __init__(self, code: int) -> None:
        super().__init__("an error occurred")
        self.code = code


CLOUD = [
    (ClientError(404), SourceRefused),
    (ClientError(403), SourceRefused),
    (ClientError(500), SourceFailed),
    (HttpError(401), SourceRefused),
    (HttpError(503), SourceFailed),
    (PermissionError("forbidden"), SourceRefused),
    (type("NoCredentialsError", (Exception,), {})("unable to locate credentials"), SourceRefused),
    (type("EndpointConnectionError", (type("ConnectionError", (Exception,), {}),), {})("nobody"), SourceUnavailable),
    (TimeoutError(), SourceUnavailable),
    (RuntimeError("surprise"), SourceFailed),
]


@pytest.mark.parametrize(("raised", "kind"), CLOUD, ids=repr)
def test_errors_of_clouds_are_distinguished(
    pull: Pull, monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[PullError]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", refuse)
    with pytest.raises(kind):
        pull("memory://bucket/digits")


def test_links_on_other_file_systems_are_refused(pull: Pull, model: Path) -> None:
    (model / "1" / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeSourceError, match="neither a file nor a folder"):
        pull(f"simplecache::file://{model}", name="digits")


def test_what_an_object_store_lists_of_the_folder_itself_is_passed_over(
    pull: Pull, memory: Callable[[Path], str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = memory(model)
    system = type(fsspec.filesystem("memory"))
    ls = system.ls

    def ls_with_marker(self: Any, path: str, detail: bool = True, **options: Any) -> list[dict[str, Any]]:
        return [{"name": path + "/", "size": 0, "type": "file"}, *ls(self, path, detail=detail, **options)]

    monkeypatch.setattr(system, "ls", ls_with_marker)
    assert list(pull(url).plan.versions) == [1, 2]


MISSING = [
    ("http://example.org/digits", "fsspec", "pip install -e '.[pull]'"),
    ("https://example.org/digits", "aiohttp", "pip install -e '.[pull]'"),
    ("ftp://example.org/digits", "fsspec", "pip install -e '.[pull]'"),
    ("s3://bucket/digits", "s3fs", "pip install -e '.[pull-s3]'"),
    ("gs://bucket/digits", "gcsfs", "pip install -e '.[pull-gcs]'"),
    ("abfs://bucket/digits", "adlfs", "adlfs"),
]


@pytest.mark.parametrize(("url", "package", "remedy"), MISSING)
def test_a_package_that_is_missing_is_named_with_its_remedy(
    pull: Pull, repository: Path, monkeypatch: pytest.MonkeyPatch, url: str, package: str, remedy: str
) -> None:
    if package == "fsspec":
        monkeypatch.delitem(sys.modules, "fsspec.core", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as error:
        pull(url)
    assert str(error.value).startswith(f"{url}: ")
    assert remedy in str(error.value)
    assert not repository.exists()


def test_a_folder_needs_no_file_system_library(
    pull: Pull, model: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    for package in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.delitem(sys.modules, package)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    pull(model)
    pull(f"file://{model}")
    assert (repository / "digits" / "config.pbtxt").is_file()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nosuch://bucket/digits", "Protocol not known: nosuch"),
        ("http://example.org/digits?signature=secret", "http://example.org/digits: .* neither a query nor a fragment"),
    ],
)
def test_a_url_that_cannot_be_is_refused(pull: Pull, url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        pull(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://name:pass@word@host/a: no", "https://host/a: no"),
        ("no https://host/a?X-Signature=secret&b, b", "no https://host/a b"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("what? user@host", "what? user@host"),
    ],
)
def test_what_is_secret_in_a_url_is_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_the_paths_of_a_listing_are_those_of_the_model(memory: Callable[[Path], str], model: Path) -> None:
    listed = list_model(open_source(memory(model)), frozenset({2}), max_bytes=GIB)
    assert [file.path for file in listed.files] == [
        PurePosixPath(path) for path in ("2/card.json", "2/golden.npz", "2/model.onnx", "config.pbtxt", "labels.txt")
    ]
    assert listed.total_bytes == sum((model / file.path).stat().st_size for file in listed.files)
