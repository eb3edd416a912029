"""A fuzzer of all untrusted input: `make fuzz`, or python tests/support/fuzzing --help.

Inputs are mutations of real ones. Each is made from a seed, a target and a number, so it can be made again; one that
fails is saved in tests/data/fuzz/, where it is a test from then on. We do without hypothesis here: an input may kill
the process that computes it, and real inputs are better starting points than strategies.
"""
