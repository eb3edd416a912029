"""The dashboard's panels as pictures for docs/metrics.md, from what Prometheus answers: `make dashboard-pictures`."""
