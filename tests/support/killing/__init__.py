"""Kills (signal 9) writers and readers of a model repository, at every step: python tests/support/killing --help.

Whatever was killed, the next server serves a whole version: the one from before or the new one.
"""
