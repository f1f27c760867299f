"""`opc-retry-token`: a create that is sent twice happens once.

The first answer is stored under the token and given again. A handler below `once` has no `await`,
so two copies of a request cannot run side by side.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from local_oci.http.errors import ServiceError
from local_oci.limits import RETRY_TOKEN_LIFETIME
from local_oci.storage.database import Database

Create = Callable[[Request, bytes], Response]
Handler = Callable[[Request], Awaitable[Response]]


def once(create: Create) -> Handler:
    """Make a create handler honour `opc-retry-token`."""

    @wraps(create)
    async def handler(request: Request) -> Response:
        body = await request.body()
        token = request.headers.get("opc-retry-token")
        if token is None:
            return create(request, body)
        database: Database = request.app.state.database
        digest = hashlib.sha256(body).hexdigest()
        earlier = _recall(database, create.__name__, token, digest)
        if earlier is not None:
            return earlier
        with database.transaction():
            response = create(request, body)
            _remember(database, create.__name__, token, digest, response)
        return response

    return handler


def forget_old_tokens(database: Database) -> None:
    """Drop tokens that are past their lifetime."""
    horizon = time.time() - RETRY_TOKEN_LIFETIME.total_seconds()
    database.execute("DELETE FROM retry_tokens WHERE time_used < ?", horizon)


def _recall(database: Database, operation: str, token: str, digest: str) -> Response | None:
    row = database.execute(
        "SELECT body_digest, status, headers, body FROM retry_tokens "
        "WHERE operation = ? AND token = ?",
        operation,
        token,
    ).fetchone()
    if row is None:
        return None
    stored_digest, status, headers, body = row
    if stored_digest != digest:
        raise ServiceError(
            409, "InvalidatedRetryToken", "The retry token was used with a different request."
        )
    return Response(body, status, json.loads(headers))


def _remember(
    database: Database, operation: str, token: str, digest: str, response: Response
) -> None:
    database.execute(
        "INSERT INTO retry_tokens VALUES (?, ?, ?, ?, ?, ?, ?)",
        operation,
        token,
        digest,
        response.status_code,
        json.dumps(dict(response.headers)),
        response.body,
        time.time(),
    )
