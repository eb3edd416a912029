"""PixelServe with TLS, and a temporary certificate."""

import ipaddress
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from . import ours
from .cores import Cores
from .ours import Transport
from .process import Server

VALID = timedelta(days=1)


@contextmanager
def serve(name: str, cores: Cores, transport: Transport) -> Iterator[Server]:
    """Runs `pixelserve serve` with TLS on gRPC and HTTP, without client certificates."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        cert, key = write_certificate(Path(place))
        options = ["--tls-cert", str(cert), "--tls-key", str(key)]
        with ours.serve(name, cores, transport, options=options) as server:
            yield replace(server, ca=cert)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Writes a self-signed certificate for loopback, and its key (both PEM); returns their paths.

    The key is on P-256, today's default of certificate authorities: its handshakes are cheaper than RSA's, while
    encrypted bytes cost the same.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "make bench")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths
