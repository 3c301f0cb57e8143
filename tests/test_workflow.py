"""The workflow of a public CI: it is YAML, calls what we call, and ends."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load(TEXT)


def test_it_runs_on_every_push_from_the_first():
    triggers = WORKFLOW[True]  # YAML 1.1 reads `on` as a truth value; GitHub knows
    assert {"push", "pull_request"} <= set(triggers)
    assert triggers["push"] is None  # any branch: a fork may call its own as it likes


def test_it_does_what_ci_does_here_and_ends():
    [job] = WORKFLOW["jobs"].values()
    assert job["runs-on"].startswith("ubuntu-")
    assert 45 < job["timeout-minutes"] <= 120
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.R_OK)


def test_python_is_the_one_the_pins_were_made_with():
    [setup] = [step for step in WORKFLOW["jobs"]["test"]["steps"] if "setup-python" in str(step)]
    assert setup["with"]["python-version"] == "3.11"  # a number would be 3.1 for 3.10
    conda = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert f"python={setup['with']['python-version']}" in conda
    assert (ROOT / setup["with"]["cache-dependency-path"]).is_file()


def test_it_may_read_and_no_more_and_every_action_has_a_version():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    for use in re.findall(r"uses: (\S+)", TEXT):
        assert re.fullmatch(r"actions/[\w-]+@v\d+", use)
