"""The v2 protocol over HTTP: every call becomes the message that gRPC would have brought, and goes the same way."""
