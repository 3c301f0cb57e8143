"""What each of locust's clients does: send a review, read the answer, send the next.

    locust -f benchmarks/clients.py --host http://127.0.0.1:8000     # with locust's own page

The file that the environment variable COURSE_REVIEWS names holds texts as a JSON list; without it
three sentences are used.
"""

import json
import os
import random
from pathlib import Path

from locust import FastHttpUser, task

REVIEWS_VARIABLE = "COURSE_REVIEWS"


def load_texts() -> list[str]:
    if path := os.environ.get(REVIEWS_VARIABLE):
        return json.loads(Path(path).read_text(encoding="utf-8"))
    return ["A fine film.", "Two hours of my life, and nothing to show for them.", "So-so."]


class Client(FastHttpUser):
    """Asks again as soon as it is answered; an answer without its prediction is a failure."""

    texts = load_texts()
    connection_timeout = network_timeout = 60.0

    @task
    def predict(self) -> None:
        text = random.choice(self.texts)
        with self.client.post("/predict", json={"texts": [text]}, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
            elif len(answer.json()["predictions"]) != 1:
                answer.failure("no prediction")
