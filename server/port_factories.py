"""Builds the server's ports and what belongs to their connections from the settings; `app` wires them."""

import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pixelserve

from .access.authorizer import Authorizer
from .api.admission import FailureCounts
from .api.dispatch import Dispatcher
from .api.health import MAX_WATCHES
from .errors import MissingLibraryError
from .failures import FailureLog
from .network import Network
from .observe.certificates import CertificateEvents
from .observe.logs import Log
from .observe.port import MetricsServer
from .settings import MIB, Settings
from .supervised import Supervisor
from .transport import HttpPort, Transport
from .transport.age import ConnectionAge
from .transport.descriptors import connections_that_fit

if TYPE_CHECKING:
    import ssl

    from .transport.certificates import CertificateFiles, Certificates
    from .transport.h2corn import Limits
    from .transport.h2corn.preemption import Preemption
    from .transport.renewal import CertificateRenewal


def with_connections_that_fit(settings: Settings, log: Log) -> Settings:
    """Returns the settings, with fewer connections if the limit on open files requires it."""
    fit = connections_that_fit(settings.max_connections)
    if fit == settings.max_connections:
        return settings
    log.warning(
        "fewer connections",
        asked=settings.max_connections,
        max_connections=fit,
        problem="the limit on open files is too low; raise it (ulimit -n, LimitNOFILE=), or lower --max-connections",
    )
    return settings.model_copy(update={"max_connections": fit})


def certificates(settings: Settings) -> "Certificates | None":
    """Returns the certificates of connections, or None if the settings name no files.

    Raises:
        CertificateError: the files are unusable.
        MissingLibraryError: the library that reads them is not installed.
    """
    if (files := _certificate_files(settings)) is None:
        return None
    from .transport.certificates import read_certificates

    return read_certificates(files)


def _certificate_files(settings: Settings) -> "CertificateFiles | None":
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    # Imported only if used: servers without TLS do not need it.
    try:
        from .transport.certificates import CertificateFiles
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"--tls-cert needs {error.name}, which is not installed; "
            "in PixelServe's clone run: pip install -e '.[server]'"
        ) from error
    return CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def metrics_tls(settings: Settings, certificates: "Certificates | None") -> "ssl.SSLContext | None":
    """Returns the TLS context of the metrics port, or None if it is not encrypted."""
    if not settings.metrics_tls or certificates is None:
        return None
    from .transport.certificates import server_context

    return server_context(certificates)


def renewal(
    settings: Settings,
    certificates: "Certificates | None",
    transport: Transport,
    http: HttpPort | None,
    metrics: MetricsServer,
    events: CertificateEvents,
    log_failure: FailureLog,
    supervisor: Supervisor,
) -> "CertificateRenewal | None":
    """Returns the renewal of all ports' certificates when their files change; None without TLS."""
    if certificates is None or (files := _certificate_files(settings)) is None:
        return None
    from .transport.certificates import server_context
    from .transport.renewal import CertificateRenewal

    ports: list[Callable[[Certificates], object]] = [transport.renew]
    if http is not None:
        ports.append(http.renew)
    if settings.metrics_tls:
        ports.append(lambda renewed: metrics.renew(server_context(renewed)))
    return CertificateRenewal(files, certificates, ports, events, log_failure, supervisor)


def connection_age(
    settings: Settings, network: Network, log_failure: FailureLog, supervisor: Supervisor
) -> ConnectionAge | None:
    """Returns the thread that replaces old connections, or None if it is off."""
    if not settings.max_connection_age_s:
        return None
    return ConnectionAge(settings.max_connection_age_s, network.replace_connections, log_failure, supervisor)


def transport(
    settings: Settings, certificates: "Certificates | None", log_failure: FailureLog, supervisor: Supervisor
) -> Transport:
    """Returns the gRPC transport, without TLS if `certificates` is None.

    Raises:
        MissingLibraryError: its library is not installed.
    """
    if settings.transport == "grpcio" or (settings.transport == "auto" and not _has_h2corn()):
        # Imported only if used: the default transport needs no grpc.
        from .transport.grpcio import GrpcioTransport

        return GrpcioTransport(
            # A full queue, and one connection whose calls lack their messages.
            max_calls=settings.max_queue_size + settings.max_concurrent_streams,
            max_streamed=settings.max_infer_streams + MAX_WATCHES,
            max_message_bytes=settings.max_message_mib * MIB,
            max_streams=settings.max_concurrent_streams,
            supervisor=supervisor,
            max_header_bytes=settings.max_header_kib * 1024,
            handshake_s=settings.handshake_timeout_s,
            unread_s=settings.unread_answer_timeout_s,
            max_age_s=settings.max_connection_age_s,
            certificates=certificates,
        )
    if not _has_h2corn():
        raise MissingLibraryError(
            "--transport h2corn needs h2corn; in PixelServe's clone run: pip install -e '.[server]', "
            "or use --transport grpcio"
        )
    from .transport.h2corn import H2cornTransport

    return H2cornTransport(_limits(settings), log_failure, certificates, supervisor)


def http_port(
    settings: Settings, certificates: "Certificates | None", log_failure: FailureLog, supervisor: Supervisor
) -> HttpPort | None:
    """Returns the HTTP transport, or None if it is off; without TLS if `certificates` is None.

    Raises:
        MissingLibraryError: its library is not installed.
    """
    if not settings.http:
        return None
    if not _has_h2corn():
        raise MissingLibraryError(
            "the HTTP API needs h2corn; in PixelServe's clone run: pip install -e '.[server]', or use --no-http"
        )
    # Imported only if used: servers without HTTP do not need it.
    from .transport.h2corn import H2cornHttpPort

    return H2cornHttpPort(_limits(settings), log_failure, certificates, supervisor)


def preemption(transport: Transport, http: HttpPort | None, log: Log, supervisor: Supervisor) -> "Preemption | None":
    """Returns what keeps h2corn's threads from interrupting the model's, or None if h2corn is not used."""
    if sys.platform != "linux" or (transport.name != "h2corn" and http is None):
        return None
    from .transport.h2corn.preemption import Preemption

    def on_refusal(error: OSError) -> None:
        log.warning("packets interrupt the model", problem=str(error), effect="a lower rate under full load")

    return Preemption(on_refusal, supervisor)


def rest(
    settings: Settings,
    dispatcher: Dispatcher,
    log_failure: FailureLog,
    failure_counts: FailureCounts,
    authorizer: Authorizer | None,
) -> Any:
    """Returns the HTTP API, an ASGI application that calls the dispatcher."""
    from .api.rest.assets import read_assets
    from .api.rest.cross_site import AllowedHosts
    from .api.rest.routes import BodyLimits, Rest

    limits = BodyLimits(
        max_bytes=settings.max_message_mib * MIB,
        max_held_bytes=settings.max_inflight_mib * MIB,
        max_json_bytes=settings.max_json_mib * MIB,
        max_images=settings.max_images,
        idle_s=settings.idle_body_timeout_s,
    )
    hosts = AllowedHosts(settings.host, settings.allowed_hosts)
    assets = read_assets() if settings.page else None
    return Rest(
        dispatcher, limits, hosts, pixelserve.__version__, log_failure, failure_counts, authorizer, assets
    ).app()


def _limits(settings: Settings) -> "Limits":
    from .transport.h2corn import Limits

    return Limits(
        max_message_bytes=settings.max_message_mib * MIB,
        max_streams=settings.max_concurrent_streams,
        max_connections=settings.max_connections,
        idle_connection_s=settings.idle_connection_timeout_s,
        handshake_s=settings.handshake_timeout_s,
        idle_body_s=settings.idle_body_timeout_s,
        unread_answer_s=settings.unread_answer_timeout_s,
        max_header_bytes=settings.max_header_kib * 1024,
        # The grace ends calls with a status; this timeout cuts them off, so it must be later.
        grace_s=settings.grace_s + 15.0,
    )


def _has_h2corn() -> bool:
    return importlib.util.find_spec("h2corn") is not None
