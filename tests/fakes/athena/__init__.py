"""A local Athena for tests and for trying out: Athena's JSON protocol, executed by DuckDB over moto's Glue and S3.

Statements are run for real on the same Iceberg tables; outputs are real objects. Nothing here is on the server's path.
How far it is faithful is said in README.md beside this file, and shown by the tests that run unmodified clients on it.
"""

from tests.fakes.athena.catalog import Store
from tests.fakes.athena.faults import AWS_RATES, Faults
from tests.fakes.athena.server import LocalAthena

__all__ = ["AWS_RATES", "Faults", "LocalAthena", "Store"]
