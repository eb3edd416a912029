"""Reads and checks the files of TLS: the server's certificate and key, and the CA of its clients.

The TLS libraries report most mistakes as "unspecified error", or only when the first client fails. They receive the
checked content, rewritten, so both transports see the same whatever the files' format.
"""

import itertools
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ..errors import CertificateError
from .pem import PemFile, PrivateKey

# A swap during the reading is followed by quiet; more than a few changes in a row are not a swap.
_READ_ATTEMPTS = 5
_FOR_SERVERS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


@dataclass(frozen=True)
class CertificateFiles:
    """Paths of the PEM files."""

    cert: Path
    """The server's certificate, then its intermediates."""
    key: Path
    """Its private key."""
    client_ca: Path | None = None
    """The CAs of client certificates; None: clients need no certificate."""

    def signature(self) -> tuple[object, ...]:
        """Returns a value that changes when any of the files is written, renamed or relinked."""
        return tuple(_signature(path) for path in (self.cert, self.key, self.client_ca) if path)


def _signature(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Certificates:
    """A consistent set."""

    chain: bytes
    """The server's certificate, then its intermediates, in PEM."""
    key: bytes = field(repr=False)
    """Its private key: PKCS #8 in PEM."""
    client_ca: bytes | None
    """The CAs of clients, in PEM; None: clients need no certificate."""
    subject: str
    """Subject of the server's certificate (RFC 4514)."""
    starts: datetime
    """When the server's chain becomes valid."""
    expires: Mapping[str, datetime]
    """The first expiry in each file: server, client_ca."""
    warnings: tuple[str, ...] = field(compare=False)
    """Reasons why clients will refuse the server or be refused, although it can serve."""

    def is_valid(self, now: datetime) -> bool:
        """Returns whether the server's chain is valid at a time."""
        return self.starts <= now <= self.expires["server"]


def read_certificates(files: CertificateFiles) -> Certificates:
    """Reads the files as one consistent set.

    Raises:
        CertificateError: a file cannot be read or used, or they do not match; names flag, file and remedy.
    """
    for _ in range(_READ_ATTEMPTS):
        before = files.signature()
        cert = PemFile.read("--tls-cert", files.cert)
        key = PemFile.read("--tls-key", files.key)
        client_ca = PemFile.read("--tls-client-ca", files.client_ca) if files.client_ca else None
        # Kubernetes swaps all files of a secret at once, by one link: never combine the old key and the new
        # certificate.
        if files.signature() == before:
            return _checked(cert, key, client_ca)
    raise CertificateError(f"--tls-cert {files.cert}: it, or a file beside it, changes whenever it is read")


@contextmanager
def lent_as_files(certificates: Certificates) -> Iterator[CertificateFiles]:
    """Provides a set to libraries that read files: the checked bytes, whatever is on disk now."""
    with ExitStack() as stack:

        def lend(content: bytes) -> Path:
            return stack.enter_context(_lent(content))

        yield CertificateFiles(
            lend(certificates.chain),
            lend(certificates.key),
            lend(certificates.client_ca) if certificates.client_ca else None,
        )


@contextmanager
def _lent(content: bytes) -> Iterator[Path]:
    # In-memory files have paths too: no key is written to disk, and the root file system may be read-only.
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("pixelserve-tls")
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor is no path
            file.write(content)
            file.flush()
            yield Path(f"/proc/self/fd/{descriptor}")
    else:
        with tempfile.NamedTemporaryFile(prefix="pixelserve-tls-") as temporary:
            temporary.write(content)
            temporary.flush()
            yield Path(temporary.name)


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Returns the set for Python's TLS, for HTTP/1 without client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with lent_as_files(certificates) as files:
        context.load_cert_chain(files.cert, files.key)
    return context


def _checked(cert: PemFile, key: PemFile, client_ca: PemFile | None) -> Certificates:
    chain, private = cert.certificates(), key.private_key()
    _check_pair(cert, chain, key, private)
    expires = {"server": min(each.not_valid_after_utc for each in chain)}
    warnings = _chain_warnings(cert.name, chain)
    authorities = client_ca.certificates() if client_ca else []
    if client_ca:
        _check_authorities(client_ca, authorities)
        expires["client_ca"] = _next_expiry(authorities)
        warnings += _validity_warnings(client_ca.name, authorities, "clients that it signed are refused")
    return Certificates(
        chain=_pem(chain),
        key=private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        client_ca=_pem(authorities) if client_ca else None,
        subject=_subject(chain[0]),
        starts=max(each.not_valid_before_utc for each in chain),
        expires=expires,
        warnings=tuple(warnings),
    )


def _check_pair(cert: PemFile, chain: list[x509.Certificate], key: PemFile, private: PrivateKey) -> None:
    """Raises CertificateError unless the first certificate is a server's and matches the key."""
    if chain[0].version is not x509.Version.v3:
        raise cert.error(
            "the certificate is X.509 version 1, which TLS libraries refuse; a subject alternative name, which clients "
            "need anyway, makes it version 3"
        )
    expected = _public_bytes(private)
    owners = [number for number, each in enumerate(chain, 1) if _public_bytes(each) == expected]
    if not owners:
        raise key.error(f"is not the key of the certificate in {cert.path} ({_subject(chain[0])}); renew both together")
    if owners[0] != 1:
        raise cert.error(
            f"the key in {key.path} belongs to certificate {owners[0]} of {len(chain)}; the server's own comes first, "
            "then its intermediates"
        )


def _check_authorities(client_ca: PemFile, authorities: list[x509.Certificate]) -> None:
    """Raises CertificateError if one is not a CA's."""
    for number, each in enumerate(authorities, 1):
        # Version 1, which old roots have, does not mark CAs.
        if each.version is x509.Version.v3 and not _is_ca(each):
            raise client_ca.error(
                f"certificate {number} ({_subject(each)}) is not a CA's; give that of the CA that signs the "
                "certificates of clients"
            )


def _chain_warnings(name: str, chain: list[x509.Certificate]) -> list[str]:
    leaf = chain[0]
    warnings = []
    if not any(isinstance(each.value, x509.SubjectAlternativeName) for each in leaf.extensions):
        warnings.append(f"{name}: the certificate has no subject alternative name; most clients refuse it")
    usages = [set(each.value) for each in leaf.extensions if isinstance(each.value, x509.ExtendedKeyUsage)]
    if usages and not _FOR_SERVERS & usages[0]:
        warnings.append(f"{name}: the certificate's extended key usage is not serverAuth; clients refuse it")
    for number, (issued, issuer) in enumerate(itertools.pairwise(chain), 1):
        if not _is_issued_by(issued, issuer):
            warnings.append(
                f"{name}: certificate {number + 1} ({_subject(issuer)}) did not sign certificate {number}; clients may "
                "not find a CA that they trust"
            )
    return warnings + _validity_warnings(name, chain, "clients refuse it")


def _validity_warnings(name: str, certificates: list[x509.Certificate], consequence: str) -> list[str]:
    now = datetime.now(UTC)
    early = [
        f"{_subject(each)} is not valid before {each.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        for each in certificates
        if now < each.not_valid_before_utc
    ]
    late = [
        f"{_subject(each)} expired at {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        for each in certificates
        if now > each.not_valid_after_utc
    ]
    return [f"{name}: {problem}; {consequence}" for problem in early + late]


def _next_expiry(certificates: list[x509.Certificate]) -> datetime:
    """Returns when the next certificate expires; an expired one beside others is harmless."""
    ends = [each.not_valid_after_utc for each in certificates]
    first: datetime = min((end for end in ends if end > datetime.now(UTC)), default=max(ends))
    return first


def _is_ca(certificate: x509.Certificate) -> bool:
    return any(isinstance(each.value, x509.BasicConstraints) and each.value.ca for each in certificate.extensions)


def _is_issued_by(issued: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _public_bytes(owner: x509.Certificate | PrivateKey) -> bytes:
    found: bytes = owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "without a subject"
