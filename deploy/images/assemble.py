"""Copies Python and its libraries, and nothing else from a Debian system, into an image's root folder.

    python3 assemble.py FOLDER

Runs in a build stage, on its installed packages. The result has no shell, package manager or setuid file. Each
package is recorded under /var/lib/dpkg/status.d, where scanners look for the packages of images without dpkg.
"""

import compileall
import py_compile
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# ONNX Runtime and others need the C++ library; base-files has /etc/os-release, netbase the protocol names.
ROOTS = (f"{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libstdc++6", "base-files", "netbase")
# Needed only to install or configure packages, or for terminals.
UNNEEDED = {"debconf", "debconf-2.0", "dpkg", "gawk", "libc-bin", "mawk", "media-types", "readline-common", "tzdata"}
# Copyright files stay, as the licences require.
SKIPPED = ("/usr/share/", "/usr/lib/locale/", "/usr/bin/", "/usr/sbin/", "/etc/update-motd.d/", "/etc/dpkg/", "/var/")
KEPT = (f"/usr/bin/{PYTHON}",)
CA_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LOCALES = Path("/usr/lib/locale")
USER = 65532


def closure(roots: Iterable[str]) -> list[str]:
    """Returns the packages and their dependencies, sorted."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        package = waiting.pop()
        if package not in found and package not in UNNEEDED:
            found.add(package)
            waiting += dependencies(package)
    return sorted(found)


def dependencies(package: str) -> list[str]:
    """Returns an installed package's installed dependencies."""
    fields = _dpkg("--show", "--showformat=${Pre-Depends}, ${Depends}", package)
    names = [word.split()[0].split(":")[0] for part in fields.split(",") for word in part.split("|") if word.strip()]
    return [name for name in names if _is_installed(name)]


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", package]
    return subprocess.run(command, capture_output=True, text=True).stdout.startswith("ii")


def _dpkg(*arguments: str) -> str:
    command = ["dpkg-query", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def files(package: str) -> Iterator[Path]:
    """Yields a package's paths needed in an image, with links in folders resolved."""
    for line in _dpkg("--listfiles", package).splitlines():
        path = Path(line)
        # Older packages use /lib, a link to /usr/lib.
        path = path.parent.resolve() / path.name
        if is_needed(str(path)) and (path.is_symlink() or path.is_file()):
            yield path


def is_needed(path: str) -> bool:
    """Returns whether an image needs this path."""
    return path in KEPT or path.endswith("/copyright") or not path.startswith(SKIPPED)


def copy(path: Path, root: Path) -> None:
    """Copies one file or link into the root folder."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        shutil.copy2(path, target, follow_symlinks=False)


def copy_package(package: str, root: Path) -> None:
    """Copies the needed files of a package, and records the package."""
    for path in files(package):
        copy(path, root)
    record = root / "var/lib/dpkg/status.d" / package
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(_dpkg("--status", package))


def add_certificates(root: Path) -> None:
    """Adds the certificates of public CAs to OpenSSL's default location."""
    copy(CA_CERTIFICATES, root)
    link = root / Path(ssl.get_default_verify_paths().openssl_cafile).relative_to("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(CA_CERTIFICATES)


def add_locales(root: Path) -> None:
    """Adds C.UTF-8, also as en_US.UTF-8, the default of ONNX's StringNormalizer."""
    shutil.copytree(LOCALES / "C.utf8", root / LOCALES.relative_to("/") / "C.utf8")
    (root / LOCALES.relative_to("/") / "en_US.utf8").symlink_to("C.utf8")


def add_bytecode(root: Path) -> None:
    """Compiles the standard library, because the root is read-only later."""
    compileall.compile_dir(
        root / "usr/lib" / PYTHON,
        quiet=1,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def add_accounts(root: Path) -> None:
    """Adds the image's user."""
    (root / "etc/passwd").write_text(f"root:x:0:0:root:/:/nonexistent\nnonroot:x:{USER}:{USER}::/:/nonexistent\n")
    (root / "etc/group").write_text(f"root:x:0:\nnonroot:x:{USER}:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def main(root: Path) -> None:
    """Fills the root folder, which must not exist."""
    root.mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in closure(ROOTS):
        copy_package(package, root)
    add_certificates(root)
    add_locales(root)
    add_accounts(root)
    add_bytecode(root)
    (root / "usr/bin/python3").symlink_to(PYTHON)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
