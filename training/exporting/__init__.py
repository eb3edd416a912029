"""An export: `pixelserve export`, from a trained model to a version in a repository with its evidence."""
