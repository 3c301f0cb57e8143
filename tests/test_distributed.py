"""Several processes take the steps that one would have taken, and a killed one loses nothing.

Most tests start their processes from the fork server, which is quick. Two start `torchrun`, as a
user would: one whose worker is killed, and the one that continues it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from course_utils import checkpoints, distributed
from course_utils.batching import collate, train_loader
from course_utils.distributed import Share, Team, TeamPrecision, join
from course_utils.history import StepRecord
from course_utils.recipe import Recipe
from course_utils.training import evaluate, fit
from tests import tiny
from tests.processes import Running

CLOSE = 1e-6
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
RECIPE = Recipe(epochs=2, lr=1e-3, precision="float32", validate_every=3)
ROOT = Path(__file__).parent.parent
# Whatever a machine's name leads to, its loopback is there.
LOOPBACK = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


# -- processes ----------------------------------------------------------------------------------


def together(function: Any, *args: Any, size: int = 2, folder: Path) -> list[Any]:
    """Call ``function(*args)`` in several processes that know each other; what each returns."""
    meeting = folder / f"meeting-{os.urandom(4).hex()}"
    runs = [Running(_member, rank, size, meeting, function, args) for rank in range(size)]
    return [run.result() for run in runs]


def _member(rank: int, size: int, meeting: Path, function: Any, args: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = LOOPBACK
    dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=size)
    try:
        return function(*args)
    finally:
        dist.destroy_process_group()


def trained(rows: int, accumulate: int, dropout: float = 0.0, **options: Any) -> dict[str, Any]:
    """Train the tiny model with `fit`; say what came of it, and what this process did for it."""
    model, seen = tiny.model(dropout=dropout), {"training": 0, "judging": 0}

    def count(module: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        seen["training" if module.training else "judging"] += len(named["input_ids"])

    model.register_forward_pre_hook(count, with_kwargs=True)
    recipe = Recipe(**vars(RECIPE) | {"accumulate": accumulate})
    history = fit(model, *tiny.loaders(train=rows), recipe=recipe, **QUIET | options)
    seen["judging"] -= 2  # on which `fit` counts the head's outputs, in every process
    return {
        "weights": plain(model),
        "steps": history.steps,
        "looks": history.evaluations,
        "rows": seen,
    }


def plain(model: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights as arrays, which outlive the process that sends them."""
    return {name: value.numpy().copy() for name, value in tiny.weights(model).items()}


def furthest(a: dict[str, Any], b: dict[str, Any]) -> float:
    return max(float(abs(a[name] - b[name]).max()) for name in a)


# -- the same steps as one process ----------------------------------------------------------------

# Batches of 4 rows. 27 of them end with 3, which two processes cannot divide evenly; 25 with a
# single one, fewer than processes; and three processes divide no batch of 4 evenly.
CASES = [(2, 26, 1), (2, 27, 1), (2, 25, 1), (2, 25, 2), (3, 26, 2), (3, 25, 3)]


@pytest.mark.parametrize(("size", "rows", "accumulate"), CASES)
def test_fit_in_several_processes_ends_as_in_one(tmp_path, size, rows, accumulate):
    alone = trained(rows, accumulate)
    found = together(trained, rows, accumulate, size=size, folder=tmp_path)
    assert furthest(alone["weights"], plain(tiny.model(dropout=0.0))) > 1e-3  # it moved
    for member in found:
        assert furthest(member["weights"], alone["weights"]) < CLOSE
        assert furthest(member["weights"], found[0]["weights"]) == 0
        assert [s.examples for s in member["steps"]] == [s.examples for s in alone["steps"]]
        for what in ("steps", "looks"):
            losses = [[record.loss for record in run[what]] for run in (member, alone)]
            assert losses[0] == pytest.approx(losses[1], abs=CLOSE)
        assert member["steps"] == found[0]["steps"]
        assert member["looks"] == found[0]["looks"]


def test_the_work_is_divided_and_not_multiplied(tmp_path):
    alone = trained(26, 1)
    found = together(trained, 26, 1, folder=tmp_path)
    for what in ("training", "judging"):
        assert sum(member["rows"][what] for member in found) == alone["rows"][what]
        assert min(member["rows"][what] for member in found) > 0.3 * alone["rows"][what]


def few_judges(rows: int) -> float:
    """Fewer validation batches of three than processes: one of these has none left."""
    train, _ = tiny.loaders()
    _, few = tiny.loaders(validation=rows)
    model = tiny.model(dropout=0.0)
    fit(model, train, few, recipe=Recipe(epochs=1, precision="float32"), **QUIET)
    team = join("cpu")
    return team.loss_of(evaluate(model, team.deal(few), cross_entropy), cross_entropy)


@pytest.mark.parametrize("rows", [2, 5])  # of two batches, one read twice would weigh more
def test_fewer_validation_batches_than_processes(tmp_path, rows):
    alone = few_judges(rows)
    assert together(few_judges, rows, size=3, folder=tmp_path) == pytest.approx([alone] * 3)


def weighted() -> float:
    """A loss that is no plain mean: class weights."""
    weights = torch.tensor([1.0, 9.0])
    loss_fn = partial(cross_entropy, weight=weights)
    model, (_, validation) = tiny.model(dropout=0.0), tiny.loaders()
    team = join("cpu")
    return team.loss_of(evaluate(model, team.deal(validation), loss_fn), loss_fn)


def test_the_validation_loss_is_that_of_all_rows_with_class_weights_too(tmp_path):
    assert together(weighted, folder=tmp_path) == pytest.approx([weighted()] * 2)


def other_beginnings() -> dict[str, np.ndarray]:
    """Every process begins with other weights."""
    model = tiny.model(dropout=0.0, seed=dist.get_rank())
    fit(model, *tiny.loaders(), recipe=Recipe(epochs=1, precision="float32"), **QUIET)
    return plain(model)


def test_all_begin_with_the_first_one_s_weights(tmp_path):
    a, b = together(other_beginnings, folder=tmp_path)
    assert furthest(a, b) == 0


def masks() -> list[float]:
    """The random numbers that the first three batches would drop by."""
    train, _ = tiny.loaders()
    shares = iter(join("cpu").share(train))
    return [(next(shares), torch.rand(()).item())[1] for _ in range(3)]


def test_every_process_and_batch_has_random_numbers_of_its_own(tmp_path):
    a, b = together(masks, folder=tmp_path)
    assert len({*a, *b}) == 6
    assert [a, b] == together(masks, folder=tmp_path)  # and the same ones in the next run


def stops_by_chance() -> tuple[int, bool]:
    """A stopping rule that only the first process would follow."""
    model = tiny.model(dropout=0.0)
    history = fit(
        model,
        *tiny.loaders(),
        recipe=RECIPE,
        should_stop=lambda looks: dist.get_rank() == 0 and len(looks) == 2,
        **QUIET,
    )
    return len(history.steps), history.stopped_early


def test_the_first_process_decides_when_to_stop(tmp_path):
    a, b = together(stops_by_chance, folder=tmp_path)
    assert a == b == (6, True)


def half_precision() -> dict[str, np.ndarray]:
    model = tiny.model(dropout=0.0)
    recipe = Recipe(epochs=1, lr=1e-2, precision="float16")
    fit(model, *tiny.loaders(), recipe=recipe, **QUIET)
    return plain(model)


def test_the_loss_scale_and_the_sum_go_together(tmp_path):
    a, b = together(half_precision, folder=tmp_path)
    assert furthest(a, b) == 0
    assert furthest(a, half_precision()) < 2e-2  # lr 1e-2, and half precision rounds


# -- files ----------------------------------------------------------------------------------------


def with_folder(folder: Path, log: Path) -> dict[str, Any]:
    """Train with a folder of checkpoints, and say which files this process wrote."""
    written: list[str] = []
    save = checkpoints.save_atomically

    def saved(content: Any, path: Path) -> None:
        written.append(path.name)
        save(content, path)

    checkpoints.save_atomically = saved  # in this process, which ends with the test
    result = trained(26, 1, folder=folder, log_folder=log, save_every=4)
    return result | {"written": written}


def test_only_the_first_process_writes(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    first, second = together(with_folder, folder, log, folder=tmp_path)
    assert {"last.pt", "best.pt"} == set(first["written"])
    assert second["written"] == []
    assert len(list(log.iterdir())) == 1
    alone = trained(26, 1, folder=folder, resume=True)  # by one process, without a step
    assert alone["rows"]["training"] == 0
    assert furthest(alone["weights"], first["weights"]) == 0


def stopped_in_the_middle(folder: Path) -> None:
    """Train with two processes until the ninth of fourteen steps; save after the eighth."""

    def stop(record: StepRecord) -> StepRecord:
        if record.step == 9:
            raise KeyboardInterrupt
        return record

    whole = Team.whole
    Team.whole = lambda team, record: stop(whole(team, record))  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trained(26, 1, folder=folder, save_every=4)


def test_a_run_of_two_processes_is_continued_by_one(tmp_path):
    together(stopped_in_the_middle, tmp_path / "run", folder=tmp_path)
    continued = trained(26, 1, folder=tmp_path / "run", save_every=4, resume=True)
    assert (
        continued["rows"]["training"] == 26 + 26 - 8 * 4 + 2
    )  # of the first epoch one batch, and the last one of two rows
    assert furthest(continued["weights"], trained(26, 1)["weights"]) < CLOSE


def no_common_disk(folder: Path, other: Path) -> str:
    mine = folder if dist.get_rank() == 0 else other
    with pytest.raises(ValueError, match="share") as error:
        trained(26, 1, folder=mine, resume=True)
    return str(error.value)


def test_a_folder_that_not_all_can_see_is_refused_by_all(tmp_path):
    trained(26, 1, folder=tmp_path / "run")
    messages = together(no_common_disk, tmp_path / "run", tmp_path / "other", folder=tmp_path)
    assert len(messages) == 2


# -- torchrun -------------------------------------------------------------------------------------

SCRIPT = """
import sys
import torch
from course_utils.distributed import Team, is_first
from course_utils.recipe import Recipe
from course_utils.training import fit
from tests import tiny
from tests.processes import die

folder, kill_at = sys.argv[1], int(sys.argv[2])
whole = Team.whole

def deadly(team, record):
    record = whole(team, record)
    if record.step == kill_at and team.rank == 1:
        die()
    return record

Team.whole = deadly
model = tiny.model(dropout=0.1)
recipe = Recipe(epochs=2, lr=1e-2, precision="float32")
fit(model, *tiny.loaders(), recipe=recipe, device="cpu", folder=folder, save_every=3, resume=True)
if is_first():
    torch.save(model.state_dict(), folder + "/end.pt")
"""


def torchrun(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"GLOO_SOCKET_IFNAME": LOOPBACK}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, check=False
    )


@pytest.mark.slow
def test_a_killed_worker_ends_all_and_the_run_continues_bit_for_bit(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    whole = torchrun(script, str(tmp_path / "whole"), "0")
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("epoch 2/2") >= 1  # the bar of the first process

    killed = torchrun(script, str(tmp_path / "killed"), "8")
    assert killed.returncode != 0
    assert re.search(r"rank\s*:\s*1", killed.stderr)
    assert "SIGKILL" in killed.stderr
    assert not (tmp_path / "killed" / "end.pt").exists()

    continued = torchrun(script, str(tmp_path / "killed"), "0")
    assert continued.returncode == 0, continued.stderr
    ends = [torch.load(tmp_path / name / "end.pt") for name in ("whole", "killed")]
    assert furthest(*ends) == 0


START = ROOT / "deploy" / "several_machines.sh"


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_script_for_several_machines_starts_torchrun_with_all_that_it_was_given(tmp_path):
    fake = tmp_path / "torchrun"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [str(START), "gpu01", "2", "train.py", "--lr", "a b"]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    given = found.stdout.splitlines()
    assert given[given.index("--nnodes") + 1] == "2"
    assert given[given.index("--nproc-per-node") + 1] == "gpu"
    assert given[given.index("--rdzv-endpoint") + 1] == "gpu01:29500"
    assert given[-3:] == ["train.py", "--lr", "a b"]
    few = subprocess.run([str(START), "gpu01"], capture_output=True, text=True, check=False)
    assert few.returncode == 2
    assert "FIRST MACHINES SCRIPT" in few.stderr


def lonely(folder: Path) -> str:
    """The second process leaves; the first one is told what that means."""
    train, _ = tiny.loaders()
    team, model = join("cpu"), tiny.model()
    if team.rank == 1:
        os._exit(3)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    next(iter(team.share(train)))
    with pytest.raises(RuntimeError) as error:
        team.add_up(model)
    return str(error.value)


def test_a_lost_process_is_named_as_the_reason(tmp_path):
    meeting = tmp_path / "meeting"
    first, second = (Running(_member, rank, 2, meeting, lonely, (tmp_path,)) for rank in (0, 1))
    assert second.exit_code() == 3
    assert first.result() == distributed.LOST


# -- alone, and what is refused -------------------------------------------------------------------


def test_alone_nothing_is_touched():
    team, (train, validation) = join("cpu"), tiny.loaders()
    record = StepRecord(1, 0.5, 0.1, 4)
    assert (team.rank, team.size, team.first) == (0, 1, True)
    assert team.share(train) is train
    assert team.deal(validation) is validation
    assert team.whole(record) is record
    assert team.agree("x") == "x"
    assert distributed.is_first()


def test_a_share_counts_parts_and_moves_as_a_batch():
    batch = tiny.batches(3)[0]
    share = Share(**vars(batch), parts=6).to("cpu")
    assert (len(share), len(share.input_ids), share.parts) == (6, 3, 6)
    assert torch.equal(share.to(torch.device("cpu")).labels, batch.labels)


def test_a_team_s_precision_is_the_same_alone():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    mse_loss(model(torch.ones(2, 3)), torch.zeros(2, 1)).backward()
    gradient = model.weight.grad.clone()
    TeamPrecision(model, "float32", Team(torch.device("cpu"))).unscale(optimizer)
    assert torch.equal(model.weight.grad, gradient)


def test_a_loader_whose_batches_cannot_be_divided_is_named():
    data = tiny.dataset(0, 8)
    loader = torch.utils.data.DataLoader(data, batch_size=2, collate_fn=collate)
    with pytest.raises(ValueError, match=r"EpochSampler"):
        next(iter(Team(torch.device("cpu"), 0, 2).share(loader)))
    assert next(iter(Team(torch.device("cpu"), 0, 2).share(train_loader(data, 2))))


@pytest.mark.parametrize(
    ("wanted", "local", "message"),
    [("cuda", "2", "at most one"), ("cuda:0", "1", "leave it out")],
)
def test_more_processes_than_gpus_and_one_gpu_for_all_are_refused(
    monkeypatch, wanted, local, message
):
    monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=message):
        distributed._own_gpu(torch.device(wanted))


def test_each_process_takes_the_gpu_of_its_number(monkeypatch):
    taken: list[int] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert distributed._own_gpu(torch.device("cuda")) == torch.device("cuda", 1)
    assert taken == [1]
