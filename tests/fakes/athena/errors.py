"""The two ways in which Athena says no: an error of the API call, and a query that ends as FAILED.

The numbers of `ErrorType` are AWS's error catalogue as far as it is published; clients must act on `Retryable`.
"""

from __future__ import annotations

SYSTEM, USER, OTHER = 1, 2, 3


class ApiError(Exception):
    """An error of one call: goes out as `{"__type": kind, "Message": …}` with HTTP 400 (or `status`)."""

    def __init__(self, kind: str, message: str, status: int = 400, **extra: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status
        self.extra = extra


class InvalidRequest(ApiError):
    """The call can never succeed as it is."""

    def __init__(self, message: str, **extra: str) -> None:
        super().__init__("InvalidRequestException", message, 400, **extra)


class SyntaxProblem(InvalidRequest):
    """The statement does not parse: Athena refuses it when it is started, no query execution is made."""

    def __init__(self, message: str) -> None:
        super().__init__(message, AthenaErrorCode="MALFORMED_QUERY")


class QueryFailed(Exception):
    """The query execution ends as FAILED with this AthenaError. `code` is the word in front of the message."""

    def __init__(
        self, code: str, message: str, category: int = USER, error_type: int = 1001, retryable: bool = False
    ) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.category = category
        self.error_type = error_type
        self.retryable = retryable

    @property
    def message(self) -> str:
        return str(self)


class QueryStopped(Exception):
    """The query execution ends as CANCELLED: somebody stopped it, or it scanned too much."""
