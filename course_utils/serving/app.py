"""The routes, readiness, starting and stopping.

The model is loaded in a thread while the service already says that it lives and is not ready:
whoever starts it (Docker, Kubernetes, systemd) can tell slow from dead. Nothing in a route
computes: a route waits for the model's thread, and meanwhile the event loop serves others.
"""

import asyncio
import base64
import hashlib
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from course_utils.serving import messages
from course_utils.serving.front import LOG, Front
from course_utils.serving.limits import Limits
from course_utils.serving.meters import Meters
from course_utils.serving.microbatch import MicroBatcher, QueueFull, Stopped
from course_utils.serving.predictor import Prediction, Predictor, share_of_cores
from course_utils.serving.problems import MEDIA_TYPE, Problem, our_fault, problem_response

PAGE = Path(__file__).with_name("page.html")
SOON = {"Retry-After": "1"}
REFUSALS = {
    400: "not JSON in UTF-8",
    408: "did not arrive in time",
    413: "too long",
    415: "not called JSON",
    422: "not texts, too many, or too long",
    503: "not ready, too busy, or stopping",
}


class Service:
    """The model of a running service, and how far it is.

    Parameters
    ----------
    load : callable
        Returns the predictor; called once, in a thread.
    limits : Limits
    on_failure : callable
        Called, in that thread, with the sentence that says why the model could not be loaded.
    """

    def __init__(
        self, load: Callable[[], Predictor], limits: Limits, on_failure: Callable[[str], None]
    ) -> None:
        self.load, self.limits, self.on_failure = load, limits, on_failure
        self.meters = Meters()
        self.predictor: Predictor | None = None
        self.batcher: MicroBatcher[Prediction] | None = None
        self.why_not = "the model is being loaded"
        self._loading = threading.Thread(target=self._load, name="loading", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._loading.start()

    def stop(self) -> None:
        """Take nothing new; answer what waits, for as long as the limits allow."""
        self.why_not = "the service is stopping"
        self._loading.join(self.limits.stop)
        if self.batcher is not None and not self.batcher.stop(self.limits.stop):
            LOG.warning("stopped before all was answered")

    def ready(self) -> tuple[Predictor, MicroBatcher[Prediction]]:
        """Return what answers.

        Raises
        ------
        Problem
            503 while there is none, or none any more.
        """
        if self.predictor is None or self.batcher is None or self.why_not:
            raise Problem(503, self.why_not, SOON)
        if not self.batcher.alive:
            raise Problem(503, "the model's thread has died; restart the service")
        return self.predictor, self.batcher

    def _load(self) -> None:
        try:
            predictor = self.load()
        except Exception as error:  # whatever it is, the process cannot serve
            self.why_not = "the model could not be loaded"
            self.on_failure(str(error))
            return
        limits = self.limits
        self.batcher = MicroBatcher(
            predictor,
            limits.batch,
            limits.wait,
            limits.queue,
            self.meters.on_batch,
            limits.workers,
            share_of_cores(limits.workers),
        )
        self.meters.queue.set_function(lambda: self.batcher.waiting if self.batcher else 0)
        self.meters.model.labels(predictor.version).set(1)
        self.predictor = predictor
        if self.why_not == "the model is being loaded":  # and not told to stop meanwhile
            self.why_not = ""
            LOG.info("ready", extra={"fields": {"model": predictor.version}})


def make_app(
    load: Callable[[], Predictor],
    limits: Limits = Limits(),  # noqa: B008 - frozen
    on_failure: Callable[[str], None] = LOG.error,
) -> Front:
    """Return the service as an ASGI application.

    Parameters
    ----------
    load : callable
        Returns the predictor.
    limits : Limits
    on_failure : callable
        Gets the sentence that says why the model could not be loaded.
    """
    service = Service(load, limits, on_failure)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    # Its pages of documentation load scripts from another host; the description itself stays.
    app = FastAPI(
        title="course serve",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST is one that some clients turn into a GET
    )
    app.state.service = service
    _add_errors(app)
    _add_predict(app, service)
    _add_views(app, service)
    paths = ["/", "/predict", "/model", "/metrics", "/health/live", "/health/ready"]
    return Front(app, service.meters, [*paths, "/openapi.json"])


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return problem_response(error, request.state.request_id)

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException) -> Response:
        detail = "there is no such path; /openapi.json lists them"
        if error.status_code == 405:
            detail = "this path does not take this method; /openapi.json lists them"
        known = Problem(error.status_code, detail, error.headers)
        return problem_response(known, request.state.request_id)

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        return problem_response(our_fault(), request.state.request_id)


def _add_predict(app: FastAPI, service: Service) -> None:
    limits = service.limits
    refusals: dict[int | str, dict[str, Any]] = {
        code: {"description": what, "content": {MEDIA_TYPE: {}}} for code, what in REFUSALS.items()
    }
    body = {"content": {"application/json": {"schema": messages.Texts.model_json_schema()}}}

    @app.post(
        "/predict",
        response_model=messages.Answer,
        responses=refusals,
        openapi_extra={"requestBody": body | {"required": True}},
    )
    async def predict(request: Request) -> Response:
        predictor, batcher = service.ready()
        messages.check_media_type(request.headers.get("content-type", ""))
        try:
            texts = messages.read_texts(await messages.read_body(request, limits), limits)
        except ClientDisconnect:
            return Response(status_code=499)  # goes nowhere
        request.state.texts = len(texts)
        try:
            predictions = await _answered(request, batcher, texts, limits.answer)
        except QueueFull as error:
            raise Problem(503, f"too busy: {error}", SOON) from None
        except Stopped as error:
            raise Problem(503, str(error), SOON) from None
        if predictions is None:
            return Response(status_code=499)
        service.meters.on_answer(predictions)
        return JSONResponse(messages.answer(predictor.version, predictions).model_dump())


async def _answered(
    request: Request, batcher: MicroBatcher[Prediction], texts: list[str], seconds: float
) -> list[Prediction] | None:
    """Wait for the model, or for the client to leave (None), or for the time to be over.

    Whoever leaves or is sent away gives up the place in the queue: nothing is computed for them.
    """
    answer = asyncio.wrap_future(batcher.submit(texts))
    left = asyncio.ensure_future(_left(request))
    either: set[asyncio.Future[Any]] = {answer, left}
    try:
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if left.done():
            return None
        raise Problem(503, f"there was no answer within {seconds:g} s", SOON)
    finally:
        answer.cancel()
        left.cancel()


async def _left(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_views(app: FastAPI, service: Service) -> None:
    page = PAGE.read_text(encoding="utf-8")
    policy = content_policy(page)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        if service.batcher is not None and not service.batcher.alive and not service.why_not:
            raise Problem(503, "the model's thread has died; restart the service")
        return {"status": "alive"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        predictor, _ = service.ready()
        return {"status": "ready", "model": predictor.version}

    @app.get("/model")
    async def model() -> dict[str, Any]:
        return service.ready()[0].card()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.meters.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def root() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})


def content_policy(page: str) -> str:
    """Return what a browser may do on the page: its own script and style, and ask this service.

    Examples
    --------
    >>> content_policy("<style>p{}</style><script>1</script>")[:44]
    "default-src 'none'; connect-src 'self'; scri"
    """
    hashes = {
        name: base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        for name in ("script", "style")
        for inside in re.findall(f"<{name}>(.*?)</{name}>", page, re.S)
    }
    return (
        f"default-src 'none'; connect-src 'self'; script-src 'sha256-{hashes['script']}'; "
        f"style-src 'sha256-{hashes['style']}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
