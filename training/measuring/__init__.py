"""Measures models, after training and later: `pixelserve evaluate` and `pixelserve zoo`."""
