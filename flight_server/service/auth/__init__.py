"""From a call's credential to a Caller: static tokens, JWT, passwords and the tokens that answer them, certificates.

Credentials are checked in the middleware of every RPC (`service/middleware.py`), before anything is read or a place is
taken. `authentication.py` decides which kind is meant; each kind has a module. Nothing here is about what a caller may
do: that is the registry's (roles) and the planner's (policies).
"""

from flight_server.service.auth import identities
from flight_server.service.auth.authentication import Authentication, Identity

__all__ = ["Authentication", "Identity", "identities"]
