"""TLS of grpcio's server: certificates that change without a restart, and whose clients it takes."""

import functools
import threading

import grpc
from cryptography import x509

from .certificates import Certificates

# Clients' certificates whose version is remembered.
_REMEMBERED = 1024


class GrpcioTls:
    """What encrypts a server's connections. Those that are open keep what they were opened with."""

    def __init__(self, certificates: Certificates) -> None:
        self._requires_certificates = certificates.client_ca is not None
        self._lock = threading.Lock()
        # What the next handshake takes; None: as the one before.
        self._next: grpc.ServerCertificateConfiguration | None = None
        self._first = _configuration(certificates)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns them as a server's port takes them."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._changed,  # type: ignore[arg-type]  # it may return None, which the stubs do not know
            self._requires_certificates,
        )

    def renew(self, certificates: Certificates) -> None:
        """Encrypts connections that come from now on with these."""
        configuration = _configuration(certificates)
        with self._lock:
            self._next = configuration

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by every handshake."""
        with self._lock:
            changed, self._next = self._next, None
        return changed

    def refusal(self, context: grpc.ServicerContext) -> str | None:
        """Returns why a call's client is refused; None: it is not.

        BoringSSL accepts X.509 version 1, in which nothing says what a certificate may be used for. rustls refuses it.
        """
        if not self._requires_certificates:
            return None
        found = context.auth_context().get("x509_pem_cert", ())
        if any(_is_version_1(pem) for pem in found):
            return (
                "the client's certificate is X.509 version 1; issue it with extensions, such as extended key usage "
                "clientAuth, which make it version 3"
            )
        return None


@functools.lru_cache(maxsize=_REMEMBERED)
def _is_version_1(pem: bytes) -> bool:
    return x509.load_pem_x509_certificate(pem).version is x509.Version.v1


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificates.key, certificates.chain)], certificates.client_ca)
