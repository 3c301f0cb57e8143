"""A whole ``course finetune``: pages, artefact, resume after a kill, and people's mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from course_utils.__main__ import main
from course_utils.artefacts import damage, load_artefact
from course_utils.own_data import finetune as finetuning
from course_utils.own_data import tuning
from course_utils.own_data.baselines import fit_baseline
from course_utils.own_data.cleaning import Row
from course_utils.own_data.folders import RunOfOwnData
from course_utils.own_data.goals import Goal
from course_utils.own_data.handed_in import look_over
from course_utils.own_data.handed_in import main as look_over_all
from course_utils.own_data.parts import OwnSplits
from course_utils.own_data.plans import Plan
from course_utils.own_data.reports import audit_page
from course_utils.own_data.requests import CannotWork, Request, look
from course_utils.serving.predictor import Predictor
from tests.own_tables import reviews, save_tiny_encoder, write_csv
from tests.processes import Running, die

SCRIPT = "<script>alert('run')</script> The film was lovely & odd"


@pytest.fixture(scope="module", autouse=True)
def tiny_encoder(tmp_path_factory) -> Iterator[Path]:
    """The course's own way to another encoder."""
    folder = save_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_ENCODER", str(folder))
        yield folder


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_csv(tmp_path / "table.csv", reviews(80))


def request(path: Path, out: Path, **how) -> Request:
    return Request(path, "text", "label", out=out, **{"epochs": 1, **how})


def run(path: Path, out: Path, **how) -> dict:
    lines = list[str]()
    folder = finetuning.finetune(request(path, out, **how), say=lines.append)
    return {
        "folder": folder,
        "lines": lines,
        "results": json.loads((folder / "results.json").read_text()),
        "report": (folder / "report.html").read_text(),
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_encoder) -> dict:
    folder = tmp_path_factory.mktemp("done")
    rows = reviews(80)
    rows += [(SCRIPT, "good"), rows[0], (rows[1][0], "good"), ("", "bad"), ("no label", "")]
    path = write_csv(folder / "table.csv", rows)
    before = path.read_bytes(), path.stat().st_mtime_ns
    found = run(path, folder / "out", epochs=2)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    return {**found, "path": path}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = list[tuple[str, dict]]()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict]:
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.mark.parametrize("name", ["report.html", "audit.html"])
def test_pages_need_nothing_else_and_show_scripts_without_running_them(done, name):
    text = (done["folder"] / name).read_text()
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    pictures = page.all("img")
    assert len(pictures) >= 2
    assert all(p["src"].startswith("data:image/png;base64,") for p in pictures)
    assert all(len(p["alt"].split()) > 8 for p in pictures)
    assert "conflicting labels" in text
    assert "no text" in text
    assert not re.search(r"nan\b|None|&amp;lt;", text)


def test_a_script_in_a_text_is_escaped(done):
    looked = look(request(done["path"], done["folder"]))
    texts = [SCRIPT] * len(looked.table)
    page = audit_page(looked.table, looked.goal, looked.audit, texts)
    assert "&lt;script&gt;alert" in page
    assert "<script" not in page


def test_the_report_says_what_the_results_are(done):
    results, report = done["results"], done["report"]
    assert results["verdict"] in report.replace("&#39;", "'")
    assert results["more"] in report
    for name, scores in results["outcome"]["scores"].items():
        assert name in report
        for found in scores.values():
            assert found["low"] <= found["value"] <= found["high"]
            assert f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" in report
    assert sum(results["sizes"]) == 80  # of 85: less a copy, two that conflict, two with a gap
    assert results["outcome"]["rows"] == results["sizes"][2]
    card = (done["folder"] / "model_card.md").read_text()
    assert results["verdict"] in card
    assert card.count("Not answered yet.") == 3  # how good it is, the card has said
    assert (done["folder"] / "model" / "README.md").read_text() == card
    assert "\n\n\n" not in card
    assert not re.search(r"[^\n]\n## |\|\n[^|\n]", card)  # a heading stands apart, a table ends
    assert "\n\n| model |" in card
    assert "\n\n| class |" in card


def test_the_service_judges_as_the_report_measured(done):
    artefact = load_artefact(done["folder"] / "model")
    assert artefact.outputs == ("bad", "good")
    assert {"training", "own_data.cleaning", "own_data.tuning"} <= set(artefact.record["code"])
    predict, decision = Predictor(artefact), done["results"]["decision"]
    assert (predict.card()["kind"], predict.max_tokens) == ("classes", 32)
    assert predict.rules.temperature == decision["temperature"]
    assert predict.rules.threshold == decision["threshold"]
    assert predict.rules.positive == artefact.outputs[decision["positive"]]
    looked = look(request(done["path"], done["folder"]))
    test = OwnSplits(looked.rows, looked.goal, 0).unseal("the same question again")
    answers = predict(test.texts)
    right = [a.label == looked.goal.names[t] for a, t in zip(answers, test.targets, strict=True)]
    value = done["results"]["outcome"]["scores"]["fine-tuned"]["accuracy"]["value"]
    assert np.mean(right) == pytest.approx(value)
    assert all(sum(a.probabilities.values()) == pytest.approx(1) for a in answers)


def test_checkpoints_go_when_the_report_is_there(done):
    names = {path.name for path in done["folder"].iterdir()}
    assert {
        "report.html",
        "audit.html",
        "audit.json",
        "model_card.md",
        "results.json",
        "model",
    } <= (names)
    assert "checkpoints" not in names
    assert not damage(done["folder"] / "model")


def test_it_says_beforehand_how_long_it_takes(done):
    [line] = [line for line in done["lines"] if "1 training of at most 2 epochs" in line]
    assert "less than a minute" in line
    assert "--resume" in line


# --- handed in ----------------------------------------------------------------------------


@pytest.fixture
def handed_in(done, tmp_path) -> Path:
    """The folder of the run, its card answered."""
    folder = Path(shutil.copytree(done["folder"], tmp_path / "ada"))
    edit(folder / "model_card.md", "Not answered yet.", "Answered.")
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_run_handed_in_is_looked_over(done, handed_in, capsys):
    before = {path: path.read_bytes() for path in handed_in.rglob("*") if path.is_file()}
    seen = look_over(handed_in)
    assert "wrong" not in {each.weight for each in seen}
    assert [each for each in seen if "test rows: what can be told" in each.sentence]
    assert [each for each in seen if "conflicting labels" in each.sentence]
    assert look_over_all([str(handed_in)]) == 0
    assert look_over_all([str(handed_in), str(done["folder"])]) == 1  # its card is not answered
    assert "3 of the card's questions not answered" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in handed_in.rglob("*") if path.is_file()}


SPOILT = {  # file, what is replaced by what, and what is said
    "a better verdict": ("results.json", "is worse than", "is better than", "does not follow"),
    "a better report": ("report.html", "is worse than", "is better than", "report.html says"),
    "a better card": ("model_card.md", "is worse than", "is better than", "model_card.md says"),
    "another model": ("settings.json", '"epochs": 2', '"epochs": 3', "is of another run"),
    "a changed model": ("model/README.md", "#", "##", "is damaged"),
    "more rows": ("results.json", '"sizes": [', '"sizes": [1, ', "were sealed"),
    "no results": ("results.json", '"outcome"', '"income"', "not of this course"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_does_not_fit_is_said(case, handed_in):
    name, old, new, sentence = SPOILT[case]
    edit(handed_in / name, old, new)
    wrong = [each.sentence for each in look_over(handed_in) if each.weight == "wrong"]
    assert len(wrong) == 1
    assert sentence in wrong[0]


def test_what_is_not_there_is_said(handed_in):
    (handed_in / "report.html").unlink()
    [seen] = look_over(handed_in)
    assert seen.sentence == "not a finished run: report.html missing"


# --- resume -------------------------------------------------------------------------------


def killed(path: Path, out: Path, at: int) -> None:
    """A run that dies, as by `kill -9`, when it has saved so many checkpoints."""
    tuning.SAVE_SECONDS = 0.0  # after every step
    from course_utils.checkpoints import RunFolder

    save, count = RunFolder.save_last, 0

    def save_and_die(self, parts) -> None:
        nonlocal count
        save(self, parts)
        count += 1
        if count == at:
            die()

    RunFolder.save_last = save_and_die  # type: ignore[method-assign]
    run(path, out, epochs=2)


def same(results: dict) -> dict:
    """All of the results but times."""
    plan = {k: v for k, v in results["plan"].items() if "seconds" not in k}
    return {**results, "plan": plan}


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(table, tmp_path):
    write_csv(table, reviews(160))
    whole = run(table, tmp_path / "whole", epochs=2)
    assert whole["results"]["points"][-2]["model"] is not None
    for at in (2, 14):  # in the middle of the training, and of the learning curve's
        out = tmp_path / f"killed-{at}"
        with pytest.raises(RuntimeError, match="exit code"):
            Running(killed, table, out, at).result()
        assert not (out / "report.html").exists()
        with pytest.raises(ValueError, match="did not end: --resume continues it"):
            run(table, out, epochs=2)
        lines = list[str]()
        finetuning.finetune(request(table, out, epochs=2), resume=True, say=lines.append)
        assert same(json.loads((out / "results.json").read_text())) == same(whole["results"])


@pytest.mark.slow
def test_another_run_is_not_continued(table, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="exit code"):
        Running(killed, table, out, 1).result()
    left = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="was another one: recipe epochs was 2, is 5"):
        finetuning.finetune(request(table, out, epochs=5), resume=True)
    write_csv(table, reviews(81))
    with pytest.raises(ValueError, match="was another one: data was"):
        finetuning.finetune(request(table, out, epochs=2), resume=True)
    assert left == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


# --- too little time ----------------------------------------------------------------------


def test_a_time_in_which_one_class_is_not_met_is_refused():
    labels = ["odd" if i < 8 else "usual" for i in range(600)]
    rows = [Row(i, f"text {i}", label, f"row {i}") for i, label in enumerate(labels)]
    goal = Goal("classes", ("odd", "usual"), "")
    plan = Plan(rows=30, epochs=2, curve=(), seconds_per_text=1.0, seconds=60.0)
    met = set()
    for seed in range(20):  # the first of five rare rows comes sooner or later
        train = OwnSplits(rows, goal, seed).train
        is_met = "odd" in {goal.words(target) for target in train.targets[:30]}
        met.add(is_met)
        if is_met:
            assert len(finetuning.affordable_rows(goal, train, plan)) == 30
        else:
            with pytest.raises(ValueError, match=r"30 of 3.. training rows, and all .* 'usual'"):
                finetuning.affordable_rows(goal, train, plan)
    assert met == {True, False}


def test_counted_words_get_all_rows_though_the_model_has_time_for_some(tmp_path, monkeypatch):
    plan = Plan(rows=40, epochs=2, curve=(), seconds_per_text=1.0, seconds=60.0, cuts=("cut",))
    trained = []

    def fit_and_count(goal, train, *rest):
        trained.append(len(train))
        return fit_baseline(goal, train, *rest)

    monkeypatch.setattr(finetuning, "make_plan", lambda *_, **__: plan)
    monkeypatch.setattr(finetuning, "fit_baseline", fit_and_count)
    found = run(write_csv(tmp_path / "table.csv", reviews(80)), tmp_path / "out", minutes=1)
    everyone = found["results"]["sizes"][0]
    assert trained[0] == everyone > 40  # what the model has to beat
    assert trained[1] == 40  # at equal rows, for the learning curve
    assert found["results"]["points"][-1]["rows"] == 40


# --- folders ------------------------------------------------------------------------------


def test_nothing_is_overwritten(table, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("here")
    for name, sentence in (("mine", "holds other things .thesis.txt"), ("file", "is a file")):
        with pytest.raises(ValueError, match=sentence):
            finetuning.finetune(request(table, tmp_path / name), resume=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "mine" / "audit.html").write_text("my own")
    twelve(table)  # would be refused too, with an audit page in the folder
    with pytest.raises(ValueError, match="holds other things"):
        finetuning.finetune(request(table, tmp_path / "mine"))
    assert (tmp_path / "mine" / "audit.html").read_text() == "my own"


def test_a_finished_run_is_not_done_again(done):
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds a finished run"):
            finetuning.finetune(request(done["path"], done["folder"]), resume=resume)


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = RunOfOwnData(tmp_path / "out", {"a": 1}, resume=False)
    with pytest.raises(ValueError, match="another process is at work"):
        RunOfOwnData(tmp_path / "out", {"a": 1}, resume=True)
    first.close()
    RunOfOwnData(tmp_path / "out", {"a": 1}, resume=True).close()


# --- other goals --------------------------------------------------------------------------


@pytest.mark.slow
def test_tags(tmp_path):
    lines = [
        {"text": text, "label": [label, *(["plot"] if "plot" in text else [])]}
        for text, label in reviews(80)
    ]
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = run(path, tmp_path / "out")
    assert found["results"]["goal"]["names"] == ["bad", "good", "plot"]
    assert "all tags right" in found["report"]
    predict = Predictor(load_artefact(found["folder"] / "model"))
    [answer, _] = predict(["The plot was fine.", "x"])
    assert set(answer.tags) <= {"bad", "good", "plot"}
    assert all(0 <= share <= 1 for share in answer.probabilities.values())


@pytest.mark.slow
def test_ratings_come_back_in_their_own_units(tmp_path):
    rows = [(text, f"{1000 + 50 * (label == 'good') + i % 7}") for i, (text, label) in enumerate(reviews(80))]  # fmt: skip # noqa: E501
    path = write_csv(tmp_path / "table.csv", rows)
    found = run(path, tmp_path / "out", kind="rating", epochs=2)
    assert "mean absolute error" in found["report"]
    answers = Predictor(load_artefact(found["folder"] / "model"))([text for text, _ in rows])
    assert 1000 < np.mean([a.rating for a in answers]) < 1060
    error = found["results"]["outcome"]["scores"]["fine-tuned"]["mean absolute error"]["value"]
    assert error < 40  # whoever forgot to scale back is off by a thousand


def test_groups_are_never_divided(tmp_path):
    rows = [(text, label, f"customer {i // 4}") for i, (text, label) in enumerate(reviews(200))]
    path = write_csv(tmp_path / "table.csv", rows, ("text", "label", "who"))
    looked = look(request(path, tmp_path / "out", group="who"))
    splits = OwnSplits(looked.rows, looked.goal)
    parts = [splits.train, splits.validation, splits.unseal("a test")]
    owners = [{(number - 1) // 4 for number in part.rows} for part in parts]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 50


def test_what_is_asked_of_the_labels_is_done(table, tmp_path):
    rows = [(t, "odd" if i < 3 else "Good" if i < 9 else label) for i, (t, label) in enumerate(reviews(80))]  # fmt: skip # noqa: E501
    write_csv(table, rows)
    looked = look(request(table, tmp_path / "out", drop_rare=True, merge={"Good": "good"}))
    assert looked.goal.names == ("bad", "good")
    assert len(looked.rows) == 77
    [note] = [f for f in looked.audit.findings if f.title == "rare labels"]
    assert note.sentence == "left out, as was asked for: odd"


def test_a_text_in_two_groups_is_pointed_out(tmp_path):
    rows = [(text, label, f"customer {i // 4}") for i, (text, label) in enumerate(reviews(80))]
    path = write_csv(tmp_path / "table.csv", [*rows, (*rows[0][:2], "customer 9")], ("text", "label", "who"))  # fmt: skip # noqa: E501
    found = look(request(path, tmp_path / "out", group="who")).audit.findings
    assert {f.title: f.rows for f in found}["texts shared by groups"] == (1, 81)


# --- at the terminal ----------------------------------------------------------------------


def course(*words: str) -> int:
    return main(["finetune", *words])


def one_line(text: str) -> str:
    [line] = [line for line in text.splitlines() if line.strip()]
    assert "Traceback" not in line
    return line


def twelve(path: Path) -> None:
    write_csv(path, reviews(12))


def one_class(path: Path) -> None:
    write_csv(path, [(text, "good") for text, _ in reviews(80)])


def every_row_its_own(path: Path) -> None:
    write_csv(path, [(text, f"id {i}") for i, (text, _) in enumerate(reviews(80))])


def rare(path: Path) -> None:
    write_csv(path, [(t, "odd" if i < 3 else label) for i, (t, label) in enumerate(reviews(80))])


def numbers_only(path: Path) -> None:
    write_csv(path, [(str(i), label) for i, (_, label) in enumerate(reviews(80))])


ARGUMENTS = ("table.csv", "--text", "text", "--label", "label")
MISTAKES = {  # how the table is, the words said, the sentence that helps
    "12 rows": (twelve, ARGUMENTS, "12 usable rows, where training, validation and a test need 50"),
    "12 rows, twice": (twelve, ARGUMENTS, r"is the better tool\. Also, these classes have fewer"),
    "one class": (one_class, ARGUMENTS, "there is only one class, 'good'"),
    "a label of its own": (every_row_its_own, ARGUMENTS, "80 different labels in 80 rows"),
    "a rare class": (rare, ARGUMENTS, r"'odd' \(3\).*--merge RARE=OTHER.*--drop-rare"),
    "no text": (numbers_only, ARGUMENTS, "every text is a number"),
    "unknown column": (None, ("table.csv", "--text", "txt", *ARGUMENTS[3:]), "Did you mean 'text'"),
    "no columns named": (None, ("table.csv",), "--text.*--label.*has 'text', 'label'"),
    "no such file": (None, ("tabel.csv", *ARGUMENTS[1:]), "not exist.*Did you mean table.csv"),
    "one column twice": (None, (*ARGUMENTS[:4], "text"), "different ones"),
    "words as ratings": (None, (*ARGUMENTS, "--kind", "rating"), "row 1 has the label 'good'"),
    "half a merge": (None, (*ARGUMENTS, "--merge", "bad"), "--merge takes A=B"),
    "merge of nothing": (None, (*ARGUMENTS, "--merge", "god=bad"), "no label 'god'.*mean 'good'"),
    "merged into one": (None, (*ARGUMENTS, "--merge", "good=bad"), "only one class"),
    "no epochs": (None, (*ARGUMENTS, "--epochs", "0"), "epochs must be at least 1"),
    "no minutes": (None, (*ARGUMENTS, "--minutes", "0"), "minutes must be above 0"),
    "too many tokens": (None, (*ARGUMENTS, "--max-tokens", "999"), "must be at most 128"),
    "negative seed": (None, (*ARGUMENTS, "--seed", "-1"), "seed must be at least 0"),
    "wrong encoding": (None, (*ARGUMENTS, "--encoding", "latin-99"), "no encoding 'latin-99'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_peoples_mistakes_get_the_sentence_that_helps(case, table, capsys):
    spoil, words, sentence = MISTAKES[case]
    if spoil:
        spoil(table)
    before = table.read_bytes()
    assert course(*words) == 1
    assert re.search(sentence, one_line(capsys.readouterr().err))
    assert table.read_bytes() == before
    names = {path.name for path in table.parent.rglob("*")}
    assert names <= {"table.csv", "table-model", "audit.html", "audit.json"}


def test_after_a_refusal_the_same_folder_can_be_used(table):
    looked_at = request(table, table.parent / "out", merge={"odd": "good"})
    rare(table)
    with pytest.raises(CannotWork, match=r"audit\.html"):
        finetuning.finetune(request(table, table.parent / "out"))
    assert "rare classes" in (table.parent / "out" / "audit.html").read_text()
    RunOfOwnData.refuse_if_taken(looked_at.folder, resume=False)


def test_look_audits_and_trains_nothing(table, capsys):
    chinese = [(f"这个产品第{i}次购买很喜欢", label) for i, (_, label) in enumerate(reviews(80))]
    write_csv(table, chinese)
    assert course(*ARGUMENTS, "--look") == 0
    shown = capsys.readouterr().out
    assert "warning: unreadable texts" in shown
    assert "table-model/audit.html" in shown.replace(os.sep, "/")
    assert {p.name for p in (table.parent / "table-model").iterdir()} == {
        "audit.html",
        "audit.json",
    }
    assert course(*ARGUMENTS, "--look") == 0  # renewed, not refused


def test_a_look_says_what_to_do(table, capsys):
    typed = [
        (text, "Good" if i % 10 == 0 else label) for i, (text, label) in enumerate(reviews(80))
    ]
    write_csv(table, typed)
    assert course(*ARGUMENTS, "--look") == 0
    assert re.search("typed in two ways. .*--merge Good=good", capsys.readouterr().out)


def test_a_look_overwrites_nothing(table, done, capsys):
    mine = table.parent / "mine"
    mine.mkdir()
    (mine / "audit.html").write_text("my own")
    (mine / "thesis.txt").write_text("years of work")
    for folder in (mine, done["folder"]):
        before = (folder / "audit.html").read_text()
        assert course(*ARGUMENTS, "--look", "--out", str(folder)) == 1
        assert "nothing is overwritten" in one_line(capsys.readouterr().err)
        assert (folder / "audit.html").read_text() == before


def test_no_curve_is_a_choice(table, capsys):
    write_csv(table, reviews(160))
    assert course(*ARGUMENTS, "--epochs", "1", "--no-curve") == 0
    assert "1 training of at most 1 epoch" in capsys.readouterr().out
    results = json.loads((table.parent / "table-model" / "results.json").read_text())
    assert [point["model"] is None for point in results["points"]] == [True, True, False]
    assert results["plan"]["cuts"] == []


def test_an_interrupt_says_how_to_go_on(table, capsys, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "fit_baseline", interrupted)
    assert course(*ARGUMENTS) == 130
    assert "--resume" in one_line(capsys.readouterr().err)
    monkeypatch.undo()


def test_a_loss_that_is_no_number_any_more_is_said_in_one_line(table, capsys, monkeypatch):
    def diverged(*_: object, **__: object) -> None:
        raise FloatingPointError("the loss became nan: try a lower lr")

    monkeypatch.setattr(finetuning, "fine_tune", diverged)
    assert course(*ARGUMENTS, "--lr", "9") == 1
    said = one_line(capsys.readouterr().err)
    assert "try a lower lr (--lr), into another folder (--out)" in said


def test_from_python_a_kind_is_checked_too(table):
    with pytest.raises(ValueError, match=r"kind must be one of .*, got 'class'"):
        request(table, table.parent / "out", kind="class")
