"""From submitted tensors to computed ones: a batcher in front of a session, no network and no protocol."""
