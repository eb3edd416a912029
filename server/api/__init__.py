"""The edge: what calls mean. With transport/, the only place that knows gRPC, HTTP and protobuf messages."""
