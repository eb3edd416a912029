"""`pixelserve export`: writes a trained model as a repository version, with evidence."""
