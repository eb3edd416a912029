"""Figures of models, when they are trained and ever after: `pixelserve evaluate` and `pixelserve zoo`."""
