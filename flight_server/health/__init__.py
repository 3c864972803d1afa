"""Whether this replica should be asked: the checks, and the gRPC health service that tells their outcome.

The HTTP face tells the same outcome at /readyz. No rows and no names of callers are in either.
"""
