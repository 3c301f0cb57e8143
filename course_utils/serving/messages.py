"""A request's bytes to texts, checked; predictions to an answer.

Nothing is guessed: another encoding than UTF-8 is refused rather than read wrongly, an unknown
field is refused rather than ignored, and a sentence says what was expected and what came. It says
where, never what the text was: texts belong to the client's clients.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from email.message import Message

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from course_utils.serving.limits import Limits
from course_utils.serving.predictor import Prediction
from course_utils.serving.problems import Problem

DRAINED = 16  # so many times the limit is read and dropped, so that the refusal can be read


class Texts(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    texts: list[str]


class Judged(BaseModel):
    """What a client gets for each text, see `Prediction`."""

    label: str | None
    tags: list[str] | None
    probabilities: dict[str, float]
    rating: float | None
    tokens: int
    truncated: bool
    unknown: float


class Answer(BaseModel):
    """What a client gets."""

    model: str
    predictions: list[Judged]


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request, whatever its length claims to be.

    Raises
    ------
    Problem
        413 if it is too long, 408 if it does not arrive.
    ClientDisconnect
        If the client left.
    """
    too_long = Problem(
        413,
        f"a request may have {limits.body:,} bytes, and this one has more",
        {"Connection": "close"},
    )
    declared = int(request.headers.get("content-length", 0))
    if declared > limits.body and "expect" in request.headers:
        raise too_long  # the client asked before it sends: it need not send
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(limits.receive):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limits.body:
                    body += chunk
                elif size > DRAINED * limits.body:
                    break
    except TimeoutError:
        raise Problem(
            408,
            f"the request did not arrive within {limits.receive:g} s: {size:,} bytes came",
            {"Connection": "close"},
        ) from None
    if size > limits.body:
        raise too_long
    return bytes(body)


def check_media_type(content_type: str) -> None:
    """Refuse what is not JSON in UTF-8.

    Raises
    ------
    Problem
        415.

    Examples
    --------
    >>> check_media_type("application/json; charset=utf-8")
    """
    header = Message()
    header["Content-Type"] = content_type or "nothing/said"
    charset = str(header.get_param("charset", "utf-8")).lower()
    if header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        raise Problem(415, "expected Content-Type: application/json, in UTF-8")


def read_texts(body: bytes, limits: Limits) -> list[str]:
    """Return the texts of a body.

    Raises
    ------
    Problem
        400 if it is not JSON in UTF-8, 422 if it is not ``{"texts": ["...", ...]}`` within the
        limits.

    Examples
    --------
    >>> read_texts(b'{"texts": ["A fine film."]}', Limits())
    ['A fine film.']
    """
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8: see its byte {error.start}") from None
    try:
        texts = Texts.model_validate_json(body).texts
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, f"the body is not JSON: {_without_text(first['msg'])}") from None
        where = ".".join(str(part) for part in first["loc"] if part == "texts" or _is_place(part))
        raise Problem(
            422,
            f'expected {{"texts": ["...", ...]}} and nothing else; {where or "the body"}: '
            f"{first['msg']}",
        ) from None
    if not 1 <= len(texts) <= limits.texts:
        raise Problem(422, f"expected 1 to {limits.texts} texts, got {len(texts)}")
    for place, text in enumerate(texts):
        if len(text) > limits.characters:
            raise Problem(
                422,
                f"a text may have {limits.characters:,} characters, and texts.{place} has "
                f"{len(text):,}",
            )
        if not any(letter.isprintable() and letter != " " for letter in text):
            raise Problem(422, f"texts.{place} is blank: there is nothing to judge")
    return texts


def answer(version: str, predictions: Sequence[Prediction]) -> Answer:
    """Return what is sent: which model judged, and what it says of each text."""
    return Answer(model=version, predictions=[Judged(**asdict(p)) for p in predictions])


def _is_place(part: object) -> bool:
    return isinstance(part, int)


def _without_text(message: str) -> str:
    """Keep where in the body the JSON ends to be JSON; drop what might quote it."""
    return message.removeprefix("Invalid JSON: ").partition(":")[0]
