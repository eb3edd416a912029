"""The API: handles calls. Only this package and transport/ know gRPC, HTTP and protobuf messages."""
