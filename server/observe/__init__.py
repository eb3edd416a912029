"""Metrics, logs and traces. The server reports events to them; only queue lengths are polled."""
