"""The engine: a batcher in front of a model's sessions. No network and no protocol."""
