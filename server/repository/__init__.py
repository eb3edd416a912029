"""Models on disk (layout, config.pbtxt) and in memory (loader, catalogue)."""
