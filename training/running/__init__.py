"""Runs of `pixelserve train`, from settings to folder."""
