"""Converts picture files to model inputs, identically in the server and in training."""
