"""A certificate authority for tests, which issues PEM files at run time."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as the files that servers and clients are given."""

    cert: Path
    key: Path

    @property
    def pem(self) -> bytes:
        return self.cert.read_bytes()

    @property
    def key_pem(self) -> bytes:
        return self.key.read_bytes()


class CertificateAuthority:
    """Signs certificates. Its own is in `path`."""

    def __init__(
        self,
        folder: Path,
        name: str = "PixelServe test CA",
        *,
        parent: "CertificateAuthority | None" = None,
        ends: timedelta = timedelta(days=30),
    ) -> None:
        """Makes the key and the certificate, which `parent` signs (None: itself), and writes `folder`/ca.crt."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        signer = parent or self
        builder = _builder(self._name, self._key.public_key(), signer, timedelta(days=-40), ends)
        self._certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(signer._key, hashes.SHA256())
        )
        self.path = folder / "ca.crt"
        self.path.write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str = "server",
        *,
        hosts: Sequence[str] = HOSTS,
        starts: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=10),
        version_1: bool = False,
        for_servers: bool = True,
        for_clients: bool = True,
        chain: bytes = b"",
        password: bytes | None = None,
    ) -> Issued:
        """Writes NAME.crt and NAME.key, for a server at `hosts` and for a client that is called `name`.

        Args:
            name: the subject's common name, and the files'.
            hosts: names and IP addresses that the certificate is valid for; none: it has no such extension.
            starts, ends: its validity, from now.
            for_servers, for_clients: what it may be used for.
            version_1: without any extension, as X.509 version 1.
            chain: PEM of intermediates, which follow the certificate in its file.
            password: encrypts the key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), key.public_key(), self, starts, ends)
        if version_1:
            pem = _as_version_1(builder.sign(self._key, hashes.SHA256()), self._key)
        else:
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH] * for_servers + [ExtendedKeyUsageOID.CLIENT_AUTH] * for_clients
            builder = (
                builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_usage(signs_certificates=False), critical=True)
                .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
                )
            )
            if hosts:
                names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
                builder = builder.add_extension(names, critical=False)
            pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password)
        issued = Issued(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        issued.cert.write_bytes(pem + chain)
        issued.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return issued


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, signer: CertificateAuthority, starts: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer._name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _as_version_1(certificate: x509.Certificate, signing_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns a certificate without extensions as X.509 version 1, signed again, in PEM; no library writes these."""
    version_3 = b"\xa0\x03\x02\x01\x02"
    header, body = certificate.tbs_certificate_bytes.split(version_3, 1)
    assert len(header) in (3, 4), "the version comes first"
    signed = _der(0x30, body)
    signature = signing_key.sign(signed, ec.ECDSA(hashes.SHA256()))
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    der = _der(0x30, signed + ecdsa_with_sha256 + _der(0x03, b"\0" + signature))
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    # A length from 128 is written in bytes of its own, whose number comes first.
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 | len(digits)]) + digits) + body
