"""A run: `pixelserve train`, from its settings to its folder."""
