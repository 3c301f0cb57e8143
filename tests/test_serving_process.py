"""``course serve`` as people run it: a process that is asked, broken, killed and stopped."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from course_utils.artefacts import load_artefact
from course_utils.serving.command import find_model
from course_utils.serving.predictor import Predictor
from tests.serving import (
    SECONDS,
    Served,
    answer_on,
    ask,
    connection,
    head,
    metrics,
    tiny_artefact,
    wait_until,
)

pytestmark = pytest.mark.slow
SECRET = "my-secret-words"
TEXTS = ["Good.", "A dull film, and far too long.", "bad " * 60, f"{SECRET} fine"]
TOGETHER = ("--batch", "4", "--wait", "50")  # nobody is computed before four are there


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_artefact(tmp_path_factory.mktemp("cache"))


def refused(*arguments: str) -> str:
    """Run a command that must not start to serve; return its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "course_utils", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    return line


def test_it_answers_as_the_model_does_and_stops_when_told(model, tmp_path):
    expected = Predictor(load_artefact(model))(TEXTS)
    with Served(model, tmp_path / "log", *TOGETHER) as served:
        with ThreadPoolExecutor(4) as clients:
            asked = [clients.submit(ask, served.url, text) for text in TEXTS]
            alone = httpx.get(f"{served.url}/model", timeout=60).json()
            found = [answer.result(120).json() for answer in asked]
        assert alone["version"] == model.name
        for one, answer in zip(expected, found, strict=True):
            assert answer["model"] == model.name
            assert answer["predictions"][0]["label"] == one.label
            assert answer["predictions"][0]["rating"] == pytest.approx(one.rating, abs=1e-4)
        assert "batch_texts_count 1.0" in metrics(served.url)  # four clients, one batch
        served.terminate()
        assert served.process.wait(SECONDS) == 0
        lines = served.logged()
    assert not [line for line in lines if SECRET in str(line)]
    paths = [line for line in lines if line["message"] == "request" and line["path"] == "/predict"]
    assert [line["status"] for line in paths] == [200] * 4
    assert len({line["request_id"] for line in paths}) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_is_under_way_and_takes_nothing_new(model, tmp_path, number):
    """A request of which half has arrived: it is under way for as long as the test likes."""
    body = json.dumps({"texts": ["under way"]}).encode()
    with (
        Served(model, tmp_path / "log", "--stop", "60") as served,
        connection(served.url) as client,
    ):
        client.sendall(head(len(body)) + body[:5])
        wait_until(lambda: "requests_under_way 2.0" in metrics(served.url))
        served.process.send_signal(number)
        wait_until(lambda: not accepts(served.url))
        assert served.process.poll() is None
        client.sendall(body[5:])
        assert answer_on(client)[0] == 200
        assert served.process.wait(SECONDS) == 0


def accepts(url: str) -> bool:
    try:
        connection(url).close()
    except ConnectionRefusedError:
        return False
    return True


def test_killed_with_a_request_under_way_and_started_again(model, tmp_path):
    """The client sees an error, not a wrong answer; the next process takes the same port."""
    log = tmp_path / "log"
    with Served(model, log, *TOGETHER) as served, ThreadPoolExecutor(1) as clients:
        port = int(served.url.rpartition(":")[2])
        asked = clients.submit(ask, served.url, "under way")
        wait_until(lambda: "queue_texts 1.0" in metrics(served.url))
        served.process.kill()
        with pytest.raises(httpx.TransportError):
            asked.result(60)
        served.process.wait(60)
    with Served(model, log, port=port) as again:
        assert again.url == served.url
        assert ask(again.url, "again").status_code == 200


def test_told_to_stop_while_loading(model, tmp_path):
    served = Served(model, tmp_path / "log")
    try:
        served.terminate()
        assert served.process.wait(SECONDS) == 0
    finally:
        served.__exit__()


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "record.json"])
def test_a_corrupt_model_is_refused(tmp_path, file):
    folder = tiny_artefact(tmp_path)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / file).write_bytes(content)
    line = refused(str(folder), "--port", "0")
    assert line.startswith(f"course: the model in {folder} is refused: ")
    assert "damaged" in line or "missing or cannot be read" in line


def test_a_file_of_another_model_is_refused(tmp_path):
    """Each file is whole; they do not belong together, as after a copy that was interrupted."""
    folder = tiny_artefact(tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"]["lowercase"] = not content["normalizer"]["lowercase"]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert "tokenizer.json is damaged" in refused(str(folder), "--port", "0")


def test_a_model_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    assert "there is no model nothing" in refused("nothing")
    tiny_artefact(tmp_path)
    assert "(tiny)" in refused("nothing")


def test_a_folder_that_is_none_of_a_model(tmp_path):
    with pytest.raises(RuntimeError, match=r"is not the folder of a model: no record\.json in it$"):
        find_model(str(tmp_path))
    folder = tiny_artefact(tmp_path)
    with pytest.raises(RuntimeError, match=f"did you mean {folder}"):
        find_model(str(folder.parent))


def test_an_address_that_is_taken(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refused(str(model), "--port", str(taken.getsockname()[1]))
    assert "in use" in line


def test_limits_that_make_no_sense(model):
    assert "do not fit" in refused(str(model), "--queue", "2", "--texts", "3")


def test_it_ends_with_the_process_that_started_it(model, tmp_path):
    """As when a notebook's kernel is killed: nobody is left to end the service."""
    start = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'course_utils', "
        f"'serve', {str(model)!r}, '--port', '0', '--with-parent'], stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    wait_until(lambda: ended(int(done.stdout)), SECONDS)


def ended(process: int) -> bool:
    """Whether it is gone, or only waits for somebody to ask what became of it."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_listens_on_this_machine_only(model, tmp_path):
    served = Served(model, tmp_path / "log")
    try:
        assert served.url.startswith("http://127.0.0.1:")
        connection(served.url).close()
    finally:
        served.__exit__()
