"""Offline commands for a repository. The server does not import this package."""
