"""Mirrors a model from a folder, an object store or a web server into a repository, whole and verified."""
