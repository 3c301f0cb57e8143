"""A service as people write it first: load the model, call it in the route.

    python -m benchmarks.naive_service MODEL threads|loop --port 8000

``threads`` has a plain function as route: FastAPI runs it in one of 40 threads, and as many model
calls share the cores. ``loop`` has ``async def`` with the same body: it blocks the event loop, so
requests are computed one after the other, and meanwhile nobody is even listened to.
"""

import argparse
import socket
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import Body, FastAPI

from course_utils.artefacts import load_artefact


def make_app(folder: Path, way: str) -> FastAPI:
    app, artefact = FastAPI(), load_artefact(folder)

    def judge(texts: list[str]) -> dict[str, Any]:
        encoded = artefact.tokenizer(texts, padding=True, truncation=True, max_length=128,
                                     return_tensors="pt")  # fmt: skip
        with torch.no_grad():
            logits = artefact.model(encoded["input_ids"], encoded["attention_mask"]).logits
        return {"predictions": logits.tolist()}

    def in_a_thread(texts: list[str] = Body(embed=True)) -> dict[str, Any]:  # noqa: B008
        return judge(texts)

    async def in_the_loop(texts: list[str] = Body(embed=True)) -> dict[str, Any]:  # noqa: B008
        return judge(texts)

    app.post("/predict")(in_a_thread if way == "threads" else in_the_loop)
    app.get("/health/ready")(lambda: {"status": "ready"})
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("way", choices=["threads", "loop"])
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    app = make_app(options.model, options.way)
    listening = socket.create_server(("127.0.0.1", options.port), backlog=512)
    print(f"serving on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
