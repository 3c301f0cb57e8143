"""What a client is told when it gets no answer: problem details, RFC 9457.

Every refusal has one shape, so that a client needs one piece of code for all of them: a status, a
title that is the same for all such cases, a sentence about this one, and the request's id, under
which the log has more.
"""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is refused.

    Parameters
    ----------
    status : int
        An HTTP status: 4xx if another request would do, 5xx if this one may do later.
    detail : str
        What was expected and what came. It never repeats a text.
    headers : mapping, optional
        Such as ``Retry-After``.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def our_fault() -> Problem:
    """Return what a client is told of an error of ours: nothing that an attacker could use."""
    return Problem(500, "an error on our side; the log has it under the request id")


def problem_response(problem: Problem, request_id: str) -> JSONResponse:
    """Return a problem as it is sent.

    Examples
    --------
    >>> problem_response(Problem(503, "the model is being loaded"), "7f").body
    b'{"title":"Service Unavailable","status":503,"detail":"the model is being loaded","request_id":"7f"}'
    """  # noqa: E501
    content = {
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
    }
    return JSONResponse(content, problem.status, problem.headers, media_type=MEDIA_TYPE)
