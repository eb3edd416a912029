"""Mirrors a model from a folder, object store, web server or image into a repository, atomically and verified."""
