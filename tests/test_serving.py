"""The service in this process: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from course_utils.__main__ import main, make_parser, serve
from course_utils.artefacts import load_artefact
from course_utils.serving.app import PAGE, content_policy, make_app
from course_utils.serving.front import JsonLines
from course_utils.serving.limits import Limits
from course_utils.serving.messages import check_media_type, read_texts
from course_utils.serving.predictor import Predictor, groups, share_of_cores
from course_utils.serving.problems import MEDIA_TYPE, Problem
from tests.serving import (
    OUTPUTS,
    PATIENT,
    Known,
    answer_on,
    answers,
    ask,
    connection,
    head,
    listening,
    metrics,
    tiny_artefact,
    wait_until,
)

TEXTS = ["Good.", "A dull film, and far too long for what it has to say.", "bad " * 60, "fine"]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return load_artefact(tiny_artefact(tmp_path_factory.mktemp("cache")))


# -- the model behind it ------------------------------------------------------------------------


def test_a_batch_says_what_each_text_alone_is_told(artefact):
    predict = Predictor(artefact, rows=3)
    together = predict(TEXTS * 2)
    for text, one in zip(TEXTS * 2, together, strict=True):
        [alone] = predict([text])
        assert one.label == alone.label
        assert one.rating == pytest.approx(alone.rating, abs=1e-5)
        assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    ratings = {round(one.rating, 3) for one in together}
    assert len(ratings) == len(TEXTS)  # texts differ, so that a wrong order would show


@pytest.mark.parametrize("most", [2, 3, 32])
@pytest.mark.parametrize("call", [1, 20, 500])
def test_groups_cost_no_more_than_any_other_cut(most, call):
    """All 128 ways to cut eight sorted texts, counted out."""
    random = np.random.default_rng(most * call)
    for lengths in (random.integers(3, 60, 8).tolist(), [4] * 4 + [50] * 4):
        found = groups(lengths, most, call)
        assert sorted(place for group in found for place in group) == list(range(8))
        assert max(len(group) for group in found) <= most
        cost = sum(call + len(group) * max(lengths[i] for i in group) for group in found)
        ordered, least = sorted(lengths), []
        for ends in itertools.product([False, True], repeat=7):
            marks = [0, *(i for i, end in enumerate(ends, start=1) if end), 8]
            runs = [ordered[a:b] for a, b in itertools.pairwise(marks)]
            if max(len(run) for run in runs) <= most:
                least.append(sum(call + len(run) * run[-1] for run in runs))
        assert cost == min(least)


def test_several_threads_may_ask_one_predictor(artefact):
    """With options that change, the tokenizer would refuse ("Already borrowed")."""
    predict = Predictor(artefact, max_tokens=16)
    alone = {text: predict([text])[0].rating for text in TEXTS}

    def ask_often(text):
        return [predict([text] * (7 + n % 2))[3].rating for n in range(40)]

    with ThreadPoolExecutor(4) as threads:
        for text, ratings in zip(TEXTS, threads.map(ask_often, TEXTS), strict=True):
            assert ratings == pytest.approx([alone[text]] * 40, abs=1e-5)


def test_threads_share_the_cores():
    before = torch.get_num_threads()
    found = []

    def worker(start):
        start()
        found.append(torch.get_num_threads())

    try:
        torch.set_num_threads(8)
        start = share_of_cores(3)
        for _ in range(2):  # the second is not left a part of the first's part
            thread = threading.Thread(target=worker, args=(start,))
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert found == [2, 2]
    assert share_of_cores(10_000).args == (1,)


def test_it_says_what_the_model_says(artefact):
    encoded = artefact.tokenizer(TEXTS[1], return_tensors="pt")
    with torch.no_grad():
        [logits] = artefact.model(encoded["input_ids"], encoded["attention_mask"]).logits
    [found] = Predictor(artefact)([TEXTS[1]])
    assert found.rating == pytest.approx(float(logits[0]), abs=1e-5)
    shares = dict(zip(OUTPUTS[1:], logits[1:].softmax(0).tolist(), strict=True))
    assert found.probabilities == pytest.approx(shares, abs=1e-5)
    assert found.label == max(shares, key=shares.get)
    assert found.tokens == encoded["input_ids"].shape[1]


def test_what_was_not_read_is_said(artefact):
    predict = Predictor(artefact, max_tokens=16)
    long, short, foreign = predict(["word " * 40, "word", "好电影"])
    assert (long.truncated, long.tokens, short.truncated) == (True, 16, False)
    assert (short.unknown, foreign.unknown > 0.3) == (0.0, True)


def test_parts_that_do_not_belong_together_are_refused(artefact):
    class Larger:
        model_max_length = 512

        def __len__(self):
            return 30_523

        def num_special_tokens_to_add(self):
            return 2

    with pytest.raises(ValueError, match="30,523 tokens and the model 30,522"):
        Predictor(replace(artefact, tokenizer=Larger()))


def test_bfloat16_says_nearly_the_same(artefact, tmp_path):
    exact = Predictor(artefact)(TEXTS)
    rounded = Predictor(load_artefact(tiny_artefact(tmp_path)), precision="bfloat16")
    assert rounded.model.classifier.weight.dtype == torch.bfloat16
    for one, other in zip(exact, rounded(TEXTS), strict=True):
        assert other.probabilities == pytest.approx(one.probabilities, abs=0.05)
    with pytest.raises(ValueError, match="precision must be one of"):
        Predictor(artefact, precision="float16")


def test_a_model_that_answers_with_nan_is_refused(tmp_path):
    broken = load_artefact(tiny_artefact(tmp_path))
    with torch.no_grad():
        broken.model.classifier.weight[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        Predictor(broken)


# -- what it is asked ---------------------------------------------------------------------------

SECRET = "my-secret-words"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b'{"texts": ["' + SECRET.encode(), 400, "not JSON"),
        (b'{"texts": ["\xe9' + SECRET.encode() + b'"]}', 400, "not UTF-8: see its byte 12"),
        (('{"texts": ["' + SECRET + '"]}').encode("utf-16"), 400, "not UTF-8: see its byte 0"),
        (b'{"texts": ["\\ud800' + SECRET.encode() + b'"]}', 400, "not JSON"),
        (b"[" * 60_000, 400, "not JSON"),
        (b'["' + SECRET.encode() + b'"]', 422, "expected {"),
        (b"{}", 422, "texts: Field required"),
        (b'{"texts": "' + SECRET.encode() + b'"}', 422, "texts: Input should be a valid"),
        (b'{"texts": ["a", 7]}', 422, "texts.1: Input should be a valid string"),
        (b'{"texts": [null]}', 422, "texts.0: "),
        (b'{"texts": ["a"], "' + SECRET.encode() + b'": 1}', 422, "the body: Extra inputs"),
        (b'{"texts": []}', 422, "expected 1 to 3 texts, got 0"),
        (b'{"texts": ["a", "b", "c", "d"]}', 422, "expected 1 to 3 texts, got 4"),
        (b'{"texts": ["a", " \\n"]}', 422, "texts.1 is blank"),
        (b'{"texts": ["\\u0000\\u200b\\u3000"]}', 422, "texts.0 is blank"),
        (b'{"texts": ["a", "' + SECRET.encode() * 10 + b'"]}', 422, "texts.1 has 150"),
    ],
)
def test_what_cannot_be_read_is_refused_and_never_repeated(body, status, words):
    with pytest.raises(Problem) as refused:
        read_texts(body, Limits(texts=3, characters=100))
    assert refused.value.status == status
    assert words in refused.value.detail
    assert SECRET not in refused.value.detail


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded"],
)
def test_another_media_type_is_refused(content_type):
    with pytest.raises(Problem) as refused:
        check_media_type(content_type)
    assert refused.value.status == 415


@pytest.mark.parametrize("kind", ["application/json", 'application/json; charset="UTF-8"'])
def test_json_is_taken(kind):
    check_media_type(kind)


# -- the routes ---------------------------------------------------------------------------------


def test_ready_only_once_the_model_is_loaded():
    loaded = threading.Event()

    def load():
        assert loaded.wait(60)
        return Known()

    with TestClient(make_app(load)) as client:
        assert client.get("/health/live").status_code == 200
        for early in (client.get("/health/ready"), client.post("/predict", json={"texts": ["a"]})):
            assert early.status_code == 503
            assert early.headers["content-type"] == MEDIA_TYPE
            assert early.headers["retry-after"] == "1"
            assert early.json()["detail"] == "the model is being loaded"
        loaded.set()
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        assert client.get("/health/ready").json() == {"status": "ready", "model": "known-1"}
        assert client.post("/predict", json={"texts": ["abc"]}).json() == {
            "model": "known-1",
            "predictions": [
                {
                    "label": "long",
                    "tags": None,
                    "probabilities": {"long": 1.0},
                    "rating": 3.0,
                    "tokens": 3,
                    "truncated": False,
                    "unknown": 0.0,
                }
            ],
        }
        assert client.get("/model").json() == {"version": "known-1"}


def test_a_model_that_cannot_be_loaded_is_reported():
    def load():
        raise ValueError("no usable model")

    told: list[str] = []
    with TestClient(make_app(load, on_failure=told.append)) as client:
        wait_until(lambda: told == ["no usable model"])
        answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the model could not be loaded")


@pytest.fixture
def client():
    with TestClient(make_app(Known, Limits(**PATIENT))) as made:
        wait_until(lambda: made.get("/health/ready").status_code == 200)
        yield made


def test_a_model_thread_that_died_is_neither_ready_nor_alive(client, recwarn):
    service = client.app.app.state.service
    service.batcher.stop(60)
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("POST", "/predict/", 404), ("GET", "/predict", 405)],
)
def test_every_refusal_has_one_shape(client, method, path, status):
    answer = client.request(method, path, headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["x-request-id"] == "abc-1"
    assert set(answer.json()) == {"title", "status", "detail", "request_id"}
    assert answer.json()["request_id"] == "abc-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"}{"b'])
def test_a_request_id_that_would_spoil_a_log_is_replaced(client, given):
    answer = client.get("/health/live", headers={"X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_counted_for_prometheus(client):
    client.post("/predict", json={"texts": ["a", "b"]})
    client.post("/predict", content=b"{", headers={"Content-Type": "application/json"})
    client.get("/some/secret/path")
    text = client.get("/metrics").text
    for line in (
        'requests_total{path="/predict",status="200"} 1.0',
        'requests_total{path="/predict",status="400"} 1.0',
        'requests_total{path="other",status="404"} 1.0',
        "batch_texts_sum 2.0",
        "text_tokens_count 2.0",
        'labels_total{label="long"} 2.0',
        "queue_texts 0.0",
        "requests_under_way 1.0",
        'model{version="known-1"} 1.0',
    ):
        assert line in text.splitlines()
    assert "secret" not in text


def test_the_log_has_the_request_and_not_its_texts(client, caplog):
    caplog.set_level(logging.DEBUG)
    client.post("/predict?q=" + SECRET, json={"texts": [SECRET, SECRET]})
    wrong = client.post("/predict", json={"texts": ["poison " + SECRET]})
    assert wrong.status_code == 500
    assert wrong.json()["detail"].startswith("an error on our side")
    lines = [
        JsonLines().format(record) for record in caplog.records if record.name == "course.serve"
    ]
    assert not [line for line in lines if SECRET in line]
    done, error, failed = map(json.loads, lines)
    assert (done["status"], done["texts"], done["path"]) == (200, 2, "/predict")
    assert (error["error"], failed["status"]) == ("RuntimeError", 500)
    assert error["request_id"] == failed["request_id"] == wrong.json()["request_id"]
    assert any("serving.py" in where for where in error["where"])


def test_an_error_is_never_logged_by_others(client, caplog):
    client.post("/predict", json={"texts": ["poison " + SECRET]})
    assert not [r for r in caplog.records if SECRET in r.getMessage() or r.exc_info]


def test_the_page_needs_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    page = PAGE.read_text(encoding="utf-8")
    assert answer.text == page
    assert not re.findall(r"(?:src|href)=\"(?!data:,)|https?://|@import|url\(", page)
    assert "innerHTML" not in page  # what a model or a person says is text
    policy = answer.headers["content-security-policy"]
    assert policy == content_policy(page)
    assert policy != content_policy(page.replace("async function ask", "function ask"))
    assert "default-src 'none'" in policy


def test_its_description_says_what_is_taken(client):
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert "requestBody" in described
    assert {"200", "413", "415", "422", "503"} <= set(described["responses"])
    assert client.get("/docs").status_code == 404  # that page loads scripts from another host


# -- on a socket --------------------------------------------------------------------------------


def test_64_clients_each_get_their_own_answer():
    known = Known(0.002)
    with listening(known, queue=64) as url, ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(lambda n: ask(url, "x" * n), range(1, 65)))
    assert [answer.status_code for answer in answers] == [200] * 64
    assert [a.json()["predictions"][0]["rating"] for a in answers] == list(range(1, 65))
    assert len(known.batches) < 64  # they were computed together
    assert sorted(len(text) for batch in known.batches for text in batch) == list(range(1, 65))


def test_a_full_queue_refuses_at_once_and_loses_none_it_took():
    known = Known()
    known.may_go.clear()
    with listening(known, queue=4, batch=1, texts=4) as url, ThreadPoolExecutor(8) as clients:
        first = clients.submit(ask, url, "a")
        assert known.began.wait(60)
        waiting = [clients.submit(ask, url, "b", "c") for _ in range(2)]
        wait_until(lambda: "queue_texts 4.0" in metrics(url))
        refused = ask(url, "d")
        known.may_go.set()
        assert [f.result(60).status_code for f in [first, *waiting]] == [200] * 3
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["detail"] == "too busy: 4 texts wait, of 4 that may"


def test_who_waits_too_long_is_told_so_and_not_computed():
    known = Known()
    known.may_go.clear()
    with listening(known, answer=3, batch=1) as url, ThreadPoolExecutor(2) as clients:
        first = clients.submit(ask, url, "first")
        assert known.began.wait(60)
        late = ask(url, "late")
        assert first.result(60).status_code == late.status_code == 503
        assert late.json()["detail"] == "there was no answer within 3 s"
        known.may_go.set()
        assert ask(url, "next").status_code == 200
    assert known.batches == [["first"], ["next"]]


def test_a_client_that_hangs_up_is_not_computed():
    known = Known()
    known.may_go.clear()
    body = json.dumps({"texts": ["gone"]}).encode()
    with listening(known, batch=1) as url, ThreadPoolExecutor(2) as clients:
        first = clients.submit(ask, url, "first")
        assert known.began.wait(60)
        with connection(url) as client:
            client.sendall(head(len(body)) + body)
            wait_until(lambda: "queue_texts 1.0" in metrics(url))
        wait_until(lambda: "queue_texts 0.0" in metrics(url))
        known.may_go.set()
        assert first.result(60).status_code == 200
        assert ask(url, "next").status_code == 200
        gone = 'requests_total{path="/predict",status="499"} 1.0'
        assert gone in metrics(url)
    assert known.batches == [["first"], ["next"]]


def test_while_the_model_computes_others_are_answered():
    """A model called in the event loop would hold up everybody."""
    known = Known()
    known.may_go.clear()
    with listening(known) as url, ThreadPoolExecutor(1) as clients:
        first = clients.submit(ask, url, "first")
        assert known.began.wait(60)
        assert httpx.get(f"{url}/health/live", timeout=60).status_code == 200
        assert not first.done()
        known.may_go.set()
        assert first.result(60).status_code == 200


@pytest.mark.parametrize("begun", [b"", b"POST /predict HTTP/1.1\r\nHost: he"])
def test_a_client_that_never_finishes_its_head_is_let_go(begun):
    with listening(Known(), receive=2) as url, connection(url) as client:
        client.sendall(begun)
        assert client.recv(100) == b""  # closed by the service
        wait_until(lambda: answers(url))


def test_a_second_head_that_never_ends_is_let_go():
    body = json.dumps({"texts": ["a"]}).encode()
    with listening(Known(), receive=2) as url, connection(url) as client:
        client.sendall(head(len(body)) + body)
        assert answer_on(client)[0] == 200
        client.sendall(b"GET / HTTP/1.1\r\nHo")
        assert client.recv(100) == b""


def test_a_body_that_does_not_arrive_is_refused():
    with listening(Known(), receive=2) as url, connection(url) as client:
        client.sendall(head(1000) + b'{"texts"')
        status, body = answer_on(client)
        assert status == 408
        assert b"8 bytes came" in body
        assert client.recv(100) == b""


def test_an_oversize_body_is_refused_so_that_the_client_can_read_it():
    with listening(Known(), body=10_000) as url:
        for content in (b"x" * 10_001, b"x" * 150_000, iter([b"x" * 6_000] * 3)):
            answer = httpx.post(
                f"{url}/predict",
                content=content,
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
            assert answer.status_code == 413
            assert (
                answer.json()["detail"] == "a request may have 10,000 bytes, and this one has more"
            )
        assert ask(url, "a").status_code == 200


def test_a_client_that_sends_all_before_it_reads_can_read_the_refusal():
    """What comes after the limit is read and dropped; closing at once would reset its sending."""
    with listening(Known(), body=10_000) as url, connection(url) as client:
        client.sendall(head(150_000) + b"x" * 20_000)
        time.sleep(1)  # a service that refuses at once has done so by now
        for _ in range(13):
            client.sendall(b"x" * 10_000)
            time.sleep(0.01)
        assert answer_on(client)[0] == 413


def test_a_client_that_asks_before_it_sends_is_told_at_once():
    """As curl does with a large file; "100 Continue" would have it send all of it."""
    asking = head(5_000_000).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with listening(Known(), receive=2) as url, connection(url) as client:
        client.sendall(asking)
        assert answer_on(client)[0] == 413


def test_an_endless_body_is_cut():
    """It ends in a refusal or a closed connection, whichever the client sees first."""
    most, sent = 20_000, 0
    with listening(Known(), body=1_000) as url, connection(url) as client:
        client.sendall(head(None))
        with contextlib.suppress(OSError):  # reset by the service
            for sent in range(most):  # noqa: B007 - how far it came is what is asked
                client.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert ask(url, "a").status_code == 200
    assert sent < most - 1


def test_what_is_no_http_is_refused():
    with listening(Known()) as url, connection(url) as client:
        client.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert client.recv(10_000).startswith(b"HTTP/1.1 400")


def test_the_command_line_has_the_defaults_of_the_limits():
    options = vars(make_parser().parse_args(["serve", "model"]))
    assert {name: options[name] for name in vars(Limits())} == vars(Limits())


@pytest.mark.parametrize("port", ["65536", "-1", "http", "80.5"])
def test_a_port_that_is_none_is_refused(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "model", "--port", port])
    assert ended.value.code == 2
    assert "from 0 to 65,535" in capsys.readouterr().err


def test_without_its_packages_the_command_says_what_to_install(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"needs fastapi.*fine-tuning-from-scratch\[serve\]"):
        serve(SimpleNamespace())
