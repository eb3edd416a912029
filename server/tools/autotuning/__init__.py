"""Finds the fastest engine for a version on this machine: a race of candidates, each in a process of its own."""
