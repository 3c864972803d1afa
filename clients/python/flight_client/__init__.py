"""Python client of athena-flight: named datasets as Arrow, polars, DuckDB or pandas.

db = flight_client.connect("grpc://localhost:8815")
db.daily_prices("AAPL", start_date="2010-01-04").arrow()
"""

from flight_client.answer import Answer
from flight_client.connection import Connection, connect
from flight_client.dataset import Dataset
from flight_client.errors import (
    Cancelled,
    Denied,
    FlightDataError,
    InvalidRequest,
    NotFound,
    RequestError,
    ServerError,
    TimedOut,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from flight_client.plan import Explanation, Plan
from flight_client.query import Query
from flight_client.submission import Status, Submission

__all__ = [
    "Answer",
    "Cancelled",
    "Connection",
    "Dataset",
    "Denied",
    "Explanation",
    "FlightDataError",
    "InvalidRequest",
    "NotFound",
    "Plan",
    "Query",
    "RequestError",
    "ServerError",
    "Status",
    "Submission",
    "TimedOut",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "connect",
]
__version__ = "0.1.0"
