"""A soak: mixed traffic of good, bad and unlucky clients for half an hour: `make soak`.

Afterwards every call has exactly one outcome, the clients' counts and the server's metrics agree to the call, and the
process is no larger than at the start.
"""
