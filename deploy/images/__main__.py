"""Builds the container images, writes their SBOM, signs and checks them.

Examples (called by the Makefile's targets image, sbom, sign and image-check):
  python -m deploy.images build
  python -m deploy.images build --variant server-cuda --engine podman --base debian:trixie-slim
  python -m deploy.images sbom
  python -m deploy.images sign registry.example/pixelserve-server@sha256:… --key cosign.key
  python -m deploy.images check --json
"""

import argparse
import sys
from pathlib import Path

from . import build, supply
from .engine import ENGINES, ImageError


def main() -> int:
    """Runs one command; returns the exit code."""
    options = parser().parse_args()
    try:
        return int(options.command(options))
    except ImageError as error:
        print(error, file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m deploy.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="build an image"))
    _add_sbom(commands.add_parser("sbom", help="write the SBOM of a built image, with syft"))
    _add_sign(commands.add_parser("sign", help="sign an image in a registry, with cosign"))
    _add_check(commands.add_parser("check", help="build the server's image here, inspect it and run it"))
    return top


def _add_build(command: argparse.ArgumentParser) -> None:
    _add_image(command)
    command.add_argument("--base", default="", help=f"image with Debian's packages (default:  {build.BASE})")
    command.add_argument(
        "--requirements", default="", metavar="FILE", help="file of requirements/, such as image-s3.txt"
    )
    command.set_defaults(command=_build)


def _build(given: argparse.Namespace) -> int:
    build.build(given.variant, given.image, given.base, given.engine, given.requirements)
    return 0


def _add_image(command: argparse.ArgumentParser) -> None:
    command.add_argument("--variant", choices=build.VARIANTS, default="server", help="which image (default: server)")
    command.add_argument("--image", default="", help="the image's name and tag (default: pixelserve-VARIANT:VERSION)")
    command.add_argument("--engine", choices=["", *ENGINES], default="", help="default: the first that works")


def _add_sbom(command: argparse.ArgumentParser) -> None:
    _add_image(command)
    command.add_argument("--format", choices=list(supply.FORMATS), default="spdx-json", help="default: spdx-json")
    command.add_argument("--syft", default="syft", help="path of syft (default: %(default)s)")
    command.set_defaults(command=_sbom)


def _sbom(given: argparse.Namespace) -> int:
    image = given.image or f"pixelserve-{given.variant}:{build.project_version()}"
    target = build.ROOT / "build" / "images" / f"pixelserve-{given.variant}{supply.FORMATS[given.format][0]}"
    supply.write_sbom(image, given.syft, target, given.format, given.engine)
    print(f"wrote {target.relative_to(build.ROOT)}")
    return 0


def _add_sign(command: argparse.ArgumentParser) -> None:
    command.add_argument("image", help="the image in its registry, with its digest: REGISTRY/NAME@sha256:…")
    command.add_argument("--key", default="", help="cosign's private key (default: keyless, by an identity provider)")
    command.add_argument("--sbom", type=Path, help="SBOM to attest with the signature")
    command.add_argument(
        "--cosign-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="an additional option of cosign, such as --cosign-option=--tlog-upload=false; may be repeated",
    )
    command.set_defaults(command=_sign)


def _sign(given: argparse.Namespace) -> int:
    supply.sign(given.image, given.key, given.sbom, given.cosign_option)
    return 0


def _add_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the results as JSON")
    command.add_argument("--syft", default="syft", help="path of syft (default: %(default)s)")
    command.set_defaults(command=_check)


def _check(given: argparse.Namespace) -> int:
    from .check import check

    return check(as_json=given.json, syft=given.syft)


if __name__ == "__main__":
    sys.exit(main())
