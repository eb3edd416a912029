"""Import rules: the boundaries of ARCHITECTURE.md, checked in the source."""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Installed name by folder.
PACKAGES = {"pixelserve": "pixelserve", "server": "pixelserve_server", "training": "pixelserve_training"}
# Permitted imports of the server and training from pixelserve; `pixelserve` itself is its version.
SHARED_WITH_BOTH = (
    *("pixelserve.card", "pixelserve.external_data", "pixelserve.figures", "pixelserve.golden"),
    "pixelserve.golden_picture",
    *("pixelserve.imaging", "pixelserve.onnx_runtime", "pixelserve.rows", "pixelserve.scores", "pixelserve.text"),
    *("pixelserve.interval", "pixelserve.openvino_runtime", "pixelserve.precisions", "pixelserve.too_new"),
)
SHARED_WITH_SERVER = (
    *(*SHARED_WITH_BOTH, "pixelserve.arrays", "pixelserve.oip", "pixelserve.tokens", "pixelserve.v1"),
)
SHARED_WITH_TRAINING = (*SHARED_WITH_BOTH, "pixelserve.arrays", "pixelserve.oip.model_config_pb2")

# Library: the only places, as path prefixes, that may import it.
CONFINED = {
    "tensorflow": ("training/",),
    "keras": ("training/",),
    "tf2onnx": ("training/",),
    "jax": ("training/exporting/converters/on_jax.py",),
    "ai_edge_litert": ("training/exporting/also/tflite.py",),
    # Turns its telemetry off; the quantiser is a separate package, imported after it.
    "onnxruntime": ("pixelserve/onnx_runtime.py", "training/exporting/quantize.py", "training/exporting/half.py"),
    # Keeps its telemetry out.
    "openvino": ("pixelserve/openvino_runtime.py",),
    "pixelserve.openvino_runtime": ("server/engine/providers/openvino.py", "training/exporting/also/openvino.py"),
    "pixelserve.onnx_runtime": ("server/engine/providers/", "training/runtime.py"),
    "prometheus_client": (
        *("server/observe/metrics.py", "server/observe/version_metrics.py", "server/observe/port.py"),
        "examples/",
    ),
    "opentelemetry": ("server/observe/traces.py",),
    "structlog": ("server/observe/plain_structlog.py",),
    "grpc": ("server/api/", "server/transport/", "pixelserve/", "examples/"),
    "cryptography": ("server/transport/",),
    "h2corn": ("server/transport/h2corn/library.py",),
    "starlette": ("server/api/rest/",),
    "msgspec": ("server/api/rest/json_body.py",),
    "PIL": ("pixelserve/imaging/", "pixelserve/client/pictures.py", "examples/"),
    "fsspec": ("pixelserve/pull/sources.py",),
    "mlflow": ("training/frameworks.py",),
    "grpc_health": ("server/api/health.py",),
    "grpc_reflection": ("server/api/reflection.py",),
    "watchfiles": ("server/repository/watcher.py",),
    "google.protobuf": (
        *("server/api/", "server/transport/", "server/repository/pbtxt.py", "server/repository/compatibility.py"),
        *("server/repository/overlay.py", "server/repository/single.py", "server/tools/promotion.py"),
        *("training/exporting/config.py", "pixelserve/"),
    ),
    "pixelserve.oip": (
        *("server/api/", "server/transport/", "server/repository/config.py", "server/repository/scheduling.py"),
        "server/repository/warmup.py",
        *("server/repository/pbtxt.py", "server/repository/compatibility.py", "server/repository/aliases.py"),
        "server/repository/picture.py",
        *("server/repository/overlay.py", "server/tools/promotion.py"),
        *("training/exporting/config.py", "pixelserve/", "examples/"),
    ),
}


def sources(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert files
    return [path for path in files if "_pb2" not in path.name]


@functools.cache
def imported_names(path: Path) -> tuple[str, ...]:
    """Returns the full names of a file's imports, with relative ones made absolute."""
    return tuple(_imported_names(path))


def _imported_names(path: Path) -> Iterator[str]:
    folder, *inner = path.relative_to(ROOT).parts
    package = [PACKAGES.get(folder, folder), *inner[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def violations(folder: str, is_forbidden: Callable[[str], bool]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for name in imported_names(path)
        if is_forbidden(name)
    ]


def test_pixelserve_imports_neither_server_nor_training() -> None:
    assert not violations("pixelserve", lambda name: is_within(name, ("pixelserve_server", "pixelserve_training")))


@pytest.mark.parametrize(
    ("folder", "other", "shared"),
    [("server", "pixelserve_training", SHARED_WITH_SERVER), ("training", "pixelserve_server", SHARED_WITH_TRAINING)],
)
def test_server_and_training_share_only_what_pixelserve_offers_them(
    folder: str, other: str, shared: tuple[str, ...]
) -> None:
    def is_forbidden(name: str) -> bool:
        if is_within(name, (other, "server", "training")):
            return True
        return is_within(name, ("pixelserve",)) and name != "pixelserve" and not is_within(name, shared)

    assert not violations(folder, is_forbidden)


def test_nothing_of_the_server_imports_its_offline_tools() -> None:
    imports = violations("server", lambda name: is_within(name, ("pixelserve_server.tools",)))
    assert [each for each in imports if not each.startswith("server/tools/")] == []
    assert imports


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("pixelserve", "server", "training", "examples")
        for name in imported_names(path)
        if is_within(name, (library,)) and not str(path.relative_to(ROOT)).startswith(CONFINED[library])
    ]
    assert not strays


def test_the_confined_libraries_are_really_used_where_they_are_allowed() -> None:
    # A rule for a library that is never imported under that name would always hold.
    used = {name for path in sources("pixelserve", "server", "training") for name in imported_names(path)}
    assert not [library for library in CONFINED if not any(is_within(name, (library,)) for name in used)]


def test_measurements_import_onnx_runtime_as_the_project_does() -> None:
    # Triton loads this one, with an environment that says the same.
    in_triton = ROOT / "benchmarks" / "compare" / "triton" / "model.py"
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("benchmarks", "deploy")
        for name in imported_names(path)
        if is_within(name, ("onnxruntime",)) and path != in_triton
    ]
    assert not strays


def test_only_app_and_parts_construct_the_servers_parts() -> None:
    parts = {"Application", "Catalogue", "Dispatcher", "GrpcioTransport", "Health", "HttpTransport"}
    parts |= {"Loader", "MetricsServer", "RepositoryManager", "RepositoryWatcher", "Rest"}
    constructed = [
        f"{path.relative_to(ROOT)} constructs {node.func.id}"
        for path in sources("server")
        if path
        not in (ROOT / "server" / "app.py", ROOT / "server" / "factories.py", ROOT / "server" / "port_factories.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in parts
    ]
    # Of the other modules, one builds the application.
    assert constructed == ["server/process.py constructs Application"]
