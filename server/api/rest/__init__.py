"""The v2 protocol over HTTP: converts each call to its gRPC message, then handles it like gRPC."""
