"""Limits of an h2corn port that no test reaches."""

from pixelserve_server.transport.h2corn import Limits

LIMITS = Limits(
    max_message_bytes=1 << 20,
    max_streams=10,
    max_connections=10,
    idle_connection_s=20,
    handshake_s=20,
    idle_body_s=20,
    unread_answer_s=20,
    max_header_bytes=16384,
    grace_s=20,
)
