"""Reads one PEM file, with errors in the operator's terms."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..errors import CertificateError

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""The kinds of keys that both transports' libraries support."""

# A bundle of all public CAs has 0.3 MiB.
_MAX_BYTES = 1024 * 1024
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_CERTIFICATE = "CERTIFICATE"
_PRIVATE_KEY = "PRIVATE KEY"
# rustls supports no other RSA sizes.
_RSA_BITS = range(2048, 8193)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True)
class PemFile:
    """The content of the file of a flag."""

    flag: str
    path: Path
    content: bytes = field(default=b"", repr=False)

    @classmethod
    def read(cls, flag: str, path: Path) -> "PemFile":
        """Reads a file.

        Raises:
            CertificateError: it does not exist or cannot be read.
        """
        file = cls(flag, path)
        try:
            # A pipe would block, and could not be read again.
            if not stat.S_ISREG(path.stat().st_mode):
                raise file.error("is not a file; give the path of a PEM file")
            with path.open("rb") as opened:
                content = opened.read(_MAX_BYTES + 1)
        except FileNotFoundError as error:
            raise file.error("there is no such file") from error
        except PermissionError as error:
            raise file.error(
                f"cannot be read: {error.strerror}; make it readable for the server's user (uid {os.geteuid()})"
            ) from error
        except OSError as error:
            raise file.error(f"cannot be read: {error.strerror}") from error
        if len(content) > _MAX_BYTES:
            raise file.error(f"has more than {_MAX_BYTES:,} bytes; expected a few certificates or one key in PEM")
        return cls(flag, path, content)

    @property
    def name(self) -> str:
        """The flag and the path, for messages."""
        return f"{self.flag} {self.path}"

    def error(self, problem: str) -> CertificateError:
        """Returns the error of this file."""
        return CertificateError(f"{self.name}: {problem}")

    def certificates(self) -> list[x509.Certificate]:
        """Returns the certificates in the file, in order.

        Raises:
            CertificateError: there are none, or one cannot be read.
        """
        found = [block for kind, block in self._blocks() if kind == _CERTIFICATE]
        if not found:
            raise self.error(self._held_instead_of("certificate", "openssl x509 -inform der"))
        certificates = []
        for number, block in enumerate(found, 1):
            with self._parsing(f"certificate {number}"):
                certificate = x509.load_pem_x509_certificate(block)
                # The library parses these lazily.
                certificate.extensions, certificate.version, certificate.public_key()
                certificates.append(certificate)
        return certificates

    def private_key(self) -> PrivateKey:
        """Returns the one private key in the file.

        Raises:
            CertificateError: there is none, or it is of another kind, encrypted or unreadable.
        """
        found = [block for kind, block in self._blocks() if kind.endswith(_PRIVATE_KEY)]
        if not found:
            raise self.error(self._held_instead_of("private key", "openssl pkey -inform der"))
        if len(found) > 1:
            raise self.error(f"holds {len(found)} private keys; expected one")
        # PKCS #8 says so in its first line, the older format in a header.
        if b"BEGIN ENCRYPTED" in found[0] or b"Proc-Type: 4,ENCRYPTED" in found[0]:
            raise self.error(
                "the key is encrypted, which is not supported, since no one can type its password when the server "
                f"starts; decrypt it with `openssl pkey -in {self.path} -out FILE` and protect FILE by its permissions"
            )
        with self._parsing("the private key"):
            key = load_pem_private_key(found[0], None)
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size not in _RSA_BITS:
            raise self.error(f"the RSA key has {key.key_size:,} bits; expected {_RSA_BITS[0]:,} to {_RSA_BITS[-1]:,}")
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _CURVES:
            raise self.error(f"the key is on the curve {key.curve.name}; expected P-256, P-384 or P-521")
        if isinstance(key, PrivateKey):
            known: PrivateKey = key
            return known
        raise self.error("the key is of a kind that TLS does not use here; expected RSA, ECDSA or Ed25519")

    def _blocks(self) -> list[tuple[str, bytes]]:
        """Returns the PEM blocks, each with its label."""
        return [(match[1].decode(), match[0]) for match in _BLOCK.finditer(self.content)]

    @contextmanager
    def _parsing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (
            ValueError,
            TypeError,
            UnsupportedAlgorithm,
            x509.InvalidVersion,
            x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType,
        ) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise self.error(f"{what} cannot be read: {reason}") from error

    def _held_instead_of(self, what: str, convert: str) -> str:
        kinds = {kind for kind, _ in self._blocks()}
        if not self.content.strip():
            return f"is empty; expected a {what} in PEM"
        if b"-----BEGIN" in self.content and not kinds:
            return f"is cut off: a block begins and does not end; expected a {what} in PEM"
        if what == "certificate" and any(kind.endswith(_PRIVATE_KEY) for kind in kinds):
            return "holds a private key and no certificate; are the files swapped?"
        if what == "private key" and _CERTIFICATE in kinds:
            return "holds a certificate and no private key; are the files swapped?"
        if kinds:
            return f"holds a {', '.join(sorted(kinds)).lower()}; expected a {what}"
        # DER and PKCS #12 both start with a SEQUENCE.
        if self.content[:1] == b"\x30":
            return f"is binary; expected PEM: convert it with `{convert} -in {self.path} -out FILE`"
        return f"holds no {what} in PEM"
