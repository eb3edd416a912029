"""TLS of grpcio's server: certificates that change without a restart, and checks of client certificates."""

import functools
import threading

import grpc
from cryptography import x509

from .certificates import Certificates

# Number of client certificates whose version is cached.
_REMEMBERED = 1024


class GrpcioTls:
    """A server's certificates. Open connections keep theirs."""

    def __init__(self, certificates: Certificates) -> None:
        self._requires_certificates = certificates.client_ca is not None
        self._lock = threading.Lock()
        # For the next handshake; None: unchanged.
        self._next: grpc.ServerCertificateConfiguration | None = None
        self._first = _configuration(certificates)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns credentials for a server's port."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._changed,  # type: ignore[arg-type]  # it may return None, which the stubs do not know
            self._requires_certificates,
        )

    def renew(self, certificates: Certificates) -> None:
        """Uses these certificates for new connections."""
        configuration = _configuration(certificates)
        with self._lock:
            self._next = configuration

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by every handshake."""
        with self._lock:
            changed, self._next = self._next, None
        return changed

    def refusal(self, context: grpc.ServicerContext) -> str | None:
        """Returns why a call's client is refused, or None.

        BoringSSL accepts X.509 version 1, which does not state a certificate's purpose; rustls refuses it.
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
