"""The outermost layer: request ids, one log line a request, and the last net for errors.

A log line has what is needed to find out what happened, and nothing of what was said: no text, no
error message (which may quote one), no query. Of an error of ours it names the type and the lines
of code.
"""

import json
import logging
import re
import time
import traceback
import uuid
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_utils.serving.meters import Meters
from course_utils.serving.problems import our_fault, problem_response

LOG = logging.getLogger("course.serve")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LEFT = 499  # what nginx logs for a client that closed its connection before the answer


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what ``extra={"fields": {...}}`` holds becomes part of it."""
        fields = getattr(record, "fields", {})
        line = {"time": self.formatTime(record), "level": record.levelname.lower()}
        return json.dumps(line | {"message": record.getMessage()} | fields)


class Front:
    """Wraps the application; see the module.

    Parameters
    ----------
    app : ASGI application
    meters : Meters
    paths : collection of str
        Paths that are counted by name; all others are counted together.
    """

    def __init__(self, app: ASGIApp, meters: Meters, paths: Collection[str]) -> None:
        self.app, self.meters, self.paths = app, meters, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.monotonic(), LEFT
        request_id = scope.setdefault("state", {})["request_id"] = _request_id(scope)
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        self.meters.under_way.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            _log_error(error, request_id)
            if status == LEFT:  # nothing was sent yet
                await problem_response(our_fault(), request_id)(scope, receive, send_with_id)
        finally:
            self.meters.under_way.dec()
            seconds = time.monotonic() - start
            self.meters.requests.labels(path, str(status)).inc()
            self.meters.seconds.labels(path).observe(seconds)
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "path": path,
                "status": status,
                "seconds": round(seconds, 4),
                "texts": scope["state"].get("texts", 0),
            }
            LOG.log(
                logging.DEBUG if path.startswith("/health") else logging.INFO,
                "request",
                extra={"fields": fields},
            )
        return None


def _request_id(scope: Scope) -> str:
    """Return the client's own id if it is a harmless one, so that logs can be joined; or a new."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _log_error(error: Exception, request_id: str) -> None:
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    fields = {"request_id": request_id, "error": type(error).__name__, "where": where}
    LOG.error("error", extra={"fields": fields})
