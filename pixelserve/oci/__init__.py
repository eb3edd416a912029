"""Models as OCI images: one version of a model, written to a layout on disk or a registry, and read back."""
