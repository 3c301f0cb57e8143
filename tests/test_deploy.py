"""The container's files agree with the service they run. Docker itself is not needed."""

from __future__ import annotations

import json
import re

import yaml

from course_utils.__main__ import make_parser
from course_utils.serving.limits import Limits
from tools.notebooks import ROOT

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
SERVE = COMPOSE["services"]["serve"]


def instruction(name: str) -> list[str]:
    [found] = re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.M)
    return json.loads(found)


def test_the_commands_are_ones_that_course_serve_understands():
    assert instruction("ENTRYPOINT") == ["/venv/bin/course", "serve"]
    for arguments in (instruction("CMD"), SERVE["command"]):
        options = make_parser().parse_args(["serve", *arguments])
        assert (options.host, options.port, options.model) == ("0.0.0.0", 8000, "/model")


def test_it_is_given_longer_to_stop_than_it_may_take():
    options = make_parser().parse_args(["serve", *SERVE["command"]])
    assert int(SERVE["stop_grace_period"].removesuffix("s")) > 2 * options.stop


def test_what_is_copied_is_there_and_reaches_docker():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    names = [name for line in copied for name in line.split()]
    assert {"pyproject.toml", "constraints.txt", "course_utils"} <= set(names)
    for name in names:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name


def test_it_has_no_rights_that_it_does_not_need():
    assert re.search(r"^USER serve$", DOCKERFILE, re.M)
    assert SERVE["read_only"] is True
    assert SERVE["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in SERVE["ports"])
    [volume] = SERVE["volumes"]
    assert (volume["target"], volume["read_only"]) == ("/model", True)


def test_it_is_asked_whether_it_is_ready():
    [check] = re.findall(r"CMD (\[.*health.*\])", DOCKERFILE)
    assert "/health/ready" in json.loads(check)[-1]


def test_the_page_on_serving_names_every_limit():
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    for name in vars(Limits()):
        if name not in ("queue", "stop"):
            assert f"`--{name}" in page, name
    assert "queue full" in page
    assert "`--stop`" in page
