"""Widgets: what they say is right, the picture is whole, and a step is quick.

That they move in a real JupyterLab is `tests/test_browser.py`; that they run under ipywidgets 7,
`tests/test_colab.py`.
"""

from __future__ import annotations

import ast
import base64
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from course_utils import widgets
from course_utils.alarms import cusum, first_alarm, standardised
from course_utils.models import load_tokenizer
from course_utils.thresholds import threshold_table
from course_utils.widgets.descent import descend
from course_utils.widgets.explorer import Explorer, Stage
from course_utils.widgets.queueing import answered
from course_utils.widgets.stopping import stop_early
from course_utils.widgets.watching import watch

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random(500) < 0.1).astype(int)
SCORES = 1 / (1 + np.exp(-(RANDOM.normal(size=500) + 2 * LABELS - 1.5)))
WEIGHTS = RANDOM.random((2, 3, 4, 4))
WEIGHTS /= WEIGHTS.sum(axis=-1, keepdims=True)
MATRIX = RANDOM.random((9, 6))
RUNS = {"plain": ([0.7, 0.4, 0.2, 0.1], [0.6, 0.5, 0.6, 0.8]), "decay": ([0.7] * 4, [0.69] * 4)}
WORDS = [f"w{i}" for i in range(5000)]
NEXT = torch.linspace(4, -4, 5000)
HEAT = [["a", "dull", "<film>"], ["good"]]
TONE = np.random.default_rng(3).normal(size=90)
SENTENCES = ["An unflinchingly <b>dull</b> film.", "Lovely."]


def bowl(theta: torch.Tensor) -> torch.Tensor:
    return (theta**2 * torch.tensor([1.0, 8.0])).sum() / 2


def found(question: str) -> tuple[str, float]:
    return f"About {question}: try <i>another</i> port.", 0.8 if "mouse" in question else 0.3


MAKERS = {
    "threshold": lambda: widgets.threshold_dial(LABELS, SCORES),
    "descent": lambda: widgets.gradient_descent_stepper(
        bowl, (4.0, 2.0), rates=(0.1, 0.3), window=(-5, 5, -3, 3)
    ),
    "tokens": lambda: widgets.token_explorer(SENTENCES, load_tokenizer()),
    "attention": lambda: widgets.attention_viewer(WEIGHTS, ["a", "dull", "dull", "film"]),
    "stopping": lambda: widgets.overfitting_explorer(RUNS),
    "mixing": lambda: widgets.mixing_dial({"movies": 400, "nyt": 25}),
    "sampling": lambda: widgets.sampling_dial(WORDS, NEXT),
    "queue": lambda: widgets.queue_dial(call=0.008, text=0.004),
    "scaling": lambda: widgets.loss_scale_dial(MATRIX),
    "ranks": lambda: widgets.rank_dial({"noise": MATRIX, "eye": torch.eye(6)}, rank=2),
    "heat": lambda: widgets.token_heatmap(
        HEAT, {"ours": [[0, -2, 1], [3]], "other": [[1, 1, 1], [2]], "third": [[0, 0, 4], [1]]}
    ),
    "chat": lambda: widgets.chat_window(found, ["mouse is dead", "<b>no</b> sound"], 0.5),
    "alarms": lambda: widgets.alarm_dashboard({"abroad": TONE, "city": TONE[:40] + 1}),
}
# A control of each, and where to move it.
MOVES = {
    "threshold": ("threshold", [0.1, 0.33, 0.9]),
    "descent": ("step", [0, 3, 30]),
    "tokens": ("max_tokens", [4, 8, 64]),
    "attention": ("head", [1, 2, 0]),
    "stopping": ("patience", [1, 4, 3]),
    "mixing": ("temperature", [2.0, 10.0, float("inf")]),
    "sampling": ("temperature", [0.3, 0.9, 2.0]),
    "queue": ("batch", [1, 4, 32]),
    "scaling": ("power", [8, 14, 18]),
    "ranks": ("rank", [1, 4, 6]),
    "heat": ("method", ["other", "ours", "third"]),
    "chat": ("threshold", [0.2, 0.7, 0.9]),
    "alarms": ("fall", [0.0, 0.5, 2.0]),
}


@pytest.fixture(scope="module")
def explorers() -> dict[str, Explorer]:
    return {name: make() for name, make in MAKERS.items()}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", MAKERS)
def test_one_output_holds_widget_picture_and_words(name, explorers):
    data, metadata = explorers[name]._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    picture = base64.b64decode(data["image/png"])
    assert pixels(picture).std() > 5  # not blank
    assert len(metadata["image/png"]["alt"].split()) >= 5
    assert data["text/plain"] == metadata["image/png"]["alt"]


@pytest.mark.parametrize("name", MAKERS)
def test_the_picture_is_the_same_each_time(name, explorers):
    assert MAKERS[name]().picture == explorers[name].picture


@pytest.mark.parametrize("name", MAKERS)
def test_every_control_has_a_label(name, explorers):
    for control in explorers[name].controls.values():
        assert control.description.strip()
        assert control.style.description_width == "initial"  # or a long label would be cut


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_changes_view_and_words_in_under_a_tenth_of_a_second(name):
    explorer, (control, values) = MAKERS[name](), MOVES[name]
    seen, times = {explorer.said}, []
    for value in values:
        start = time.thread_time()  # not the wall clock: other tests run beside this one
        explorer.controls[control].value = value
        times.append(time.thread_time() - start)
        seen.add(explorer.said)
        assert explorer.said in explorer.words.value
    assert len(seen) >= 3
    assert np.median(times) < 0.1


@pytest.fixture
def stages(monkeypatch) -> list[Stage]:
    """The stages that widgets make during the test."""
    made = list[Stage]()
    real = Stage.__init__

    def noted(self, figure, moving):
        made.append(self)
        real(self, figure, moving)

    monkeypatch.setattr(Stage, "__init__", noted)
    return made


@pytest.mark.parametrize(
    "name",
    [
        *("threshold", "descent", "attention", "stopping", "mixing", "sampling", "queue"),
        *("scaling", "alarms"),
    ],
)
def test_what_moves_is_drawn_as_in_a_figure_drawn_whole(name, stages):
    """A moving artist that is not on the list would be missing, or stand still."""
    explorer, (control, values) = MAKERS[name](), MOVES[name]
    explorer.controls[control].value = values[0]
    [stage] = stages
    quick = pixels(stage.png())
    for artist in stage.moving:
        artist.set_animated(False)
    stage.canvas.draw()
    whole = np.asarray(stage.canvas.buffer_rgba())[..., :3].astype(int)
    different = (np.abs(quick - whole).max(axis=-1) > 40).mean()
    assert different < 0.01  # what lies over what may differ by a few pixels


def test_blitting_that_forgets_an_artist_is_noticed():
    """The test above can fail: a line that is not among the moving ones stays where it was."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2))
    (line,) = figure.subplots().plot([0, 1], [0, 0], linewidth=10)
    stage = Stage(figure, [])
    before = stage.png()
    line.set_ydata([1, 1])
    assert stage.png() == before


def test_the_sampling_dial_says_what_is_kept():
    dial = widgets.sampling_dial(["a", "b", "c"], torch.tensor([0.6, 0.3, 0.1]).log(), shown=2)
    assert "3 of 3 tokens may be drawn. 'a' has 0.60" in dial.said
    dial.controls["top_k"].value = 2
    assert "2 of 3 tokens may be drawn. 'a' has 0.67 (before: 0.60)" in dial.said
    dial.controls["top_p"].value = 0.5
    assert "1 of 3 tokens may be drawn. 'a' has 1.00" in dial.said


def test_the_loss_scale_dial_counts_what_float16_makes_of_a_gradient():
    gradient = 2.0 ** np.array([-30.0, -26, -20, -10, 0])
    dial = widgets.loss_scale_dial(gradient, power=0)
    assert "40% of the gradient is zero" in dial.said
    assert "20% is coarse" in dial.said
    dial.controls["power"].value = 16
    half = (torch.tensor(gradient) * 2.0**16).half()
    assert f"{half.isinf().double().mean():.0%} is infinite" in dial.said
    assert "0% of the gradient is zero" in dial.said


def test_the_rank_dial_counts_directions_and_numbers():
    dial = widgets.rank_dial({"change": np.diag([3.0, 2.0, 1.0])}, rank=1)
    assert "keeps 64% of change" in dial.said  # 9 of 9 + 4 + 1
    assert "It takes 6 numbers, the whole matrix 9." in dial.said
    dial.controls["rank"].value = 3
    assert "keeps 100% of change" in dial.said
    assert "random numbers it would keep 100%" in dial.said


def test_the_heat_map_says_what_did_most_and_escapes_it():
    heat = MAKERS["heat"]()
    assert heat.said == "ours: 'dull' did most (-2.00), then '&lt;film&gt;' (+1.00)."
    assert "&lt;film&gt;" in heat.view.value
    assert "<film>" not in heat.view.value
    colours = re.findall(r"background: #(..)(..)(..)", heat.view.value)
    red, _, blue = (int(part, 16) for part in colours[1])
    assert red > blue  # against is vermilion
    red, _, blue = (int(part, 16) for part in colours[2])
    assert blue > red  # towards is blue
    assert colours[0] == ("FF", "FF", "FF")
    heat.controls["sentence"].value = 1
    assert heat.said == "ours: 'good' did most (+3.00)."
    heat.controls["method"].value = "other"
    assert "+2.00" in heat.view.value


def test_the_chat_hands_over_below_the_threshold_and_shows_text_as_text():
    chat = widgets.chat_window(found, ["mouse is dead", "no sound"], threshold=0.5)
    assert "the machine answers" in chat.said
    assert "About mouse is dead" in chat.view.value
    assert "<i>another</i>" not in chat.view.value
    chat.controls["question"].value = "no sound"
    assert "handed over to a person" in chat.said
    assert "About" not in chat.view.value
    chat.controls["own"].value = "<script>mouse</script>"
    assert "Confidence 0.80" in chat.said
    assert "<script>" not in chat.view.value


def test_the_chat_says_which_question_is_answered():
    chat = widgets.chat_window(found, ["mouse is dead", "no sound", "no light"])
    assert chat.said.startswith("Question 1 of 3.")
    chat.controls["own"].value = "my mouse"
    assert chat.said.startswith("Your own question")
    chat.controls["question"].value = "no light"  # moving the slider leaves the typed text
    assert chat.controls["own"].value == ""
    assert chat.said.startswith("Question 3 of 3.")
    assert "no light" in chat.view.value
    chat.controls["own"].value = "   "
    assert chat.said.startswith("Question 3 of 3.")


@pytest.mark.parametrize(
    ("sure", "verdict"), [(0.5474, "handed over to a person"), (0.5476, "the machine answers")]
)
def test_the_chat_decides_by_the_digits_that_it_shows(sure, verdict):
    chat = widgets.chat_window(lambda _: ("a", sure), ["b"], threshold=0.5479)
    assert f"Confidence {sure:.3f}, threshold 0.548: {verdict}." in chat.said


def test_the_chat_shows_the_beginning_of_a_long_question_and_all_of_an_answer():
    chat = widgets.chat_window(lambda text: ("y" * 1000, len(text) / 1e4), ["b"], 0.4, 3)
    assert "are read" not in chat.said
    chat.controls["own"].value = "x" * 5000
    assert "Confidence 0.500" in chat.said  # all of it was asked
    assert "x" * 301 not in chat.view.value
    assert "(4,700 characters more)" in chat.view.value
    assert "y" * 1000 in chat.view.value
    assert chat.view.value.count("overflow-wrap: anywhere") == 2
    assert "are read" not in chat.said
    chat.controls["own"].value = "one two three four"
    assert "Only the first 3 of its 4 words are read." in chat.said


def test_an_alarm_before_the_fall_is_told_as_false():
    tone = TONE[:80].copy()
    tone[45] -= 5  # harsh by chance: the fall begins at number 61
    dashboard = widgets.alarm_dashboard({"tone": tone})
    assert "from number 61 on lower by 1 standard deviation." in dashboard.said
    early = int(re.search(r"False alarm at (\d+), before the fall", dashboard.said)[1])
    assert early == 46
    when, delay = map(int, re.search(r" Alarm at (\d+): a delay of (\d+)", dashboard.said).groups())
    assert delay == when - 60 > 0
    dashboard.controls["fall"].value = 0.0
    assert "before the fall" not in dashboard.said
    assert f"False alarm at {early}." in dashboard.said
    assert " Alarm" not in dashboard.said


@pytest.mark.parametrize("before", [0, 3, 6])
def test_the_chart_begins_again_after_a_false_alarm_only(before):
    z = [-3.0, -3.0, -3.0, -3.0, 0.0, -3.0]
    chart, alarms = watch(z, 4.0, before)
    again = {0: (cusum(z), [2]), 3: ([2.5, 5, 2.5, 5, 4.5, 7], [2, 4])}
    again[6] = ([2.5, 5, 2.5, 5, 0, 2.5], [2, 4])
    assert chart.tolist() == list(again[before][0])
    assert alarms == again[before][1]


def test_the_dashboard_names_and_draws_the_beginning_of_the_fall(stages):
    tone = TONE[:80].copy()
    tone[45] -= 5
    dashboard = widgets.alarm_dashboard({"tone": tone})
    [stage] = stages
    [legend] = stage.figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["history ends", "limit", "fall begins", "alarm", "false alarm"]
    for axes in stage.figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines["history ends"].get_xdata()) == [40.5] * 2
        assert list(lines["fall begins"].get_xdata()) == [60.5] * 2
        for name, told in (
            ("alarm", r"\bAlarm at (\d+)"),
            ("false alarm", r"False alarm at (\d+)"),
        ):
            number = int(re.search(told, dashboard.said)[1])
            assert list(lines[name].get_xdata()) == [number] * 3
    dashboard.controls["fall"].value = 0.0
    assert not lines["fall begins"].get_visible()
    assert not len(lines["alarm"].get_xdata())


def test_the_saved_dashboard_is_the_live_one():
    dashboard = MAKERS["alarms"]()
    assert base64.b64encode(dashboard.picture).decode() in dashboard.view.value
    assert dashboard.said in dashboard.alt


def test_the_dashboard_draws_what_the_charts_say():
    dashboard = widgets.alarm_dashboard({"tone": TONE, "other": TONE})
    dashboard.controls["fall"].value = 2.0
    z = standardised(TONE, TONE[:45])
    z[len(z) - len(z) // 4 :] -= 2
    limit = float(re.search(r"Limit ([\d.]+)", dashboard.said)[1])
    when = 45 + int(first_alarm(cusum(z[45:]), limit))
    assert abs(int(re.search(r"Alarm at (\d+)", dashboard.said)[1]) - when) <= 1  # it is rounded
    dashboard.controls["fall"].value = 0.0
    assert "nothing was changed" in dashboard.said
    assert "No alarm" in dashboard.said


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 1.0])
def test_the_dial_counts_as_scikit_learn_does(threshold):
    dial = widgets.threshold_dial(LABELS, SCORES, costs=(4,))
    dial.controls["threshold"].value = threshold
    (_, alarms), (missed, hits) = confusion_matrix(LABELS, threshold <= SCORES)
    assert f"{hits} hits, {alarms} false alarms; {missed} of {LABELS.sum()} missed" in dial.said
    assert f"{(4 * missed + alarms) / 500:.3f} for each row" in dial.said


def test_the_buttons_go_where_they_say():
    dial, table = (
        widgets.threshold_dial(LABELS, SCORES, costs=(9,)),
        threshold_table(LABELS, SCORES),
    )
    best, cheapest = dial.buttons
    best.click()
    assert abs(dial.controls["threshold"].value - table.best_f1()) <= 0.01
    cheapest.click()
    assert abs(dial.controls["threshold"].value - table.cheapest(9)) <= 0.01


def test_descent_is_gradient_descent():
    path, losses = descend(bowl, (4.0, 2.0), rate=0.1, steps=4)
    steps = np.arange(5)[:, None]
    assert np.allclose(path, np.array([4.0, 2.0]) * (1 - 0.1 * np.array([1.0, 8.0])) ** steps)
    assert np.allclose(losses, (path**2 * [1.0, 8.0]).sum(axis=1) / 2)


def test_a_path_that_diverges_does_not_break_the_picture():
    stepper = widgets.gradient_descent_stepper(
        bowl, (1.0, 1.0), rates=(1e9,), window=(-2, 2, -2, 2), steps=40
    )
    stepper.controls["step"].value = 40
    assert "nan" in stepper.said or "inf" in stepper.said


def test_typed_text_is_shown_as_text_and_never_as_html():
    explorer = widgets.token_explorer(["fine"], load_tokenizer())
    explorer.controls["own"].value = "<script>alert(1)</script> & so on"
    assert "<script>" not in explorer.view.value
    assert "script" in explorer.view.value
    assert "&amp;" in explorer.view.value


def test_tokens_beyond_the_cut_are_named():
    explorer = widgets.token_explorer(["one two three four five six"], load_tokenizer())
    explorer.controls["max_tokens"].value = 5  # [CLS], three words, [SEP]
    assert "5 tokens" in explorer.said
    assert "3 cut" in explorer.said
    assert explorer.view.value.count("line-through") == 3


def test_early_stopping_agrees_with_a_plain_loop():
    losses = np.random.default_rng(1).random((50, 12))
    for row in losses:
        for patience in (1, 2, 5):
            best, waited = 0, 0
            for epoch in range(1, 13):
                improved = epoch == 1 or row[epoch - 1] < row[best - 1]
                best, waited = (epoch, 0) if improved else (best, waited + 1)
                if waited == patience:
                    break
            assert stop_early(row, patience) == (epoch, best)


@pytest.mark.parametrize(
    "call",
    [
        lambda: widgets.threshold_dial(LABELS, SCORES * 3),
        lambda: widgets.threshold_dial(LABELS, SCORES, costs=()),
        lambda: widgets.threshold_dial(LABELS, SCORES, costs=(1, 0)),
        lambda: widgets.threshold_dial(LABELS[:3], SCORES),
        lambda: widgets.attention_viewer(WEIGHTS, ["too", "few"]),
        lambda: widgets.chat_window(found, []),
        lambda: widgets.chat_window(found, ["a"], threshold=1.5),
        lambda: widgets.chat_window(found, ["a"], words_read=0),
        lambda: widgets.alarm_dashboard({}),
        lambda: widgets.alarm_dashboard({"short": TONE[:11]}),
        lambda: widgets.alarm_dashboard({"constant": np.ones(30)}),
        lambda: widgets.attention_viewer(WEIGHTS * 2, list("abcd")),
        lambda: widgets.attention_viewer(WEIGHTS[0], list("abcd")),
        lambda: widgets.overfitting_explorer({}),
        lambda: widgets.sampling_dial(["a", "b"], torch.zeros(2), shown=2),
        lambda: widgets.sampling_dial(["a", "b"], torch.zeros(3), shown=1),
        lambda: widgets.queue_dial(call=0),
        lambda: widgets.queue_dial(text=float("nan")),
        lambda: answered([0.0], 0, 0, 0, 0),
        lambda: answered([0.0], 1, -1, 0, 0),
        lambda: widgets.loss_scale_dial(np.zeros(3)),
        lambda: widgets.loss_scale_dial(np.array([1.0, np.inf])),
        lambda: widgets.loss_scale_dial(np.ones(3), power=3),
        lambda: widgets.rank_dial({}),
        lambda: widgets.rank_dial({"a": np.zeros((3, 3))}, rank=1),
        lambda: widgets.rank_dial({"a": np.ones(3)}, rank=1),
        lambda: widgets.rank_dial({"a": np.eye(3)}, rank=4),
        lambda: widgets.token_heatmap([], {"a": []}),
        lambda: widgets.token_heatmap([["a"]], {}),
        lambda: widgets.token_heatmap([["a"], ["b"]], {"a": [[1.0]]}),
        lambda: widgets.token_heatmap([["a", "b"]], {"a": [[1.0]]}),
        lambda: widgets.token_heatmap([["a"]], {"a": [[float("nan")]]}),
        lambda: widgets.overfitting_explorer({"a": ([1.0], [1.0, 2.0])}),
        lambda: widgets.gradient_descent_stepper(bowl, (1, 1), rates=(), window=(0, 1, 0, 1)),
        lambda: widgets.gradient_descent_stepper(bowl, (1, 1), rates=(1,), window=(1, 0, 0, 1)),
        lambda: widgets.token_explorer([], load_tokenizer()),
        lambda: widgets.token_explorer(["a"], load_tokenizer(), max_tokens=2),
        lambda: widgets.mixing_dial({}),
        lambda: widgets.mixing_dial({"a": 3, "b": 0}),
        lambda: widgets.mixing_dial({"a": 3}, temperature=0.5),
    ],
)
def test_what_cannot_be_shown_is_refused(call):
    with pytest.raises(ValueError, match=r"got|must|need"):
        call()


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("wait", [0.0, 0.03, 1.0])
def test_the_queue_is_that_of_a_clock_that_ticks(batch, wait):
    """The same rules, a millisecond at a time: who is there, is it time, is the model free."""
    random = np.random.default_rng(batch)
    arrivals = np.cumsum(random.integers(1, 40, 30)) / 1000
    call, text = 0.02, 0.005
    waiting, expected, sizes, free, now = [], {}, [], 0, 0
    while len(expected) < len(arrivals):
        waiting += [i for i, came in enumerate(arrivals) if round(1000 * came) == now]
        closed = waiting and (
            len(waiting) >= batch or now >= round(1000 * (arrivals[waiting[0]] + wait))
        )
        if closed and now >= free:
            taken, waiting = waiting[:batch], waiting[batch:]
            free = now + round(1000 * (call + text * len(taken)))
            expected |= dict.fromkeys(taken, free / 1000)
            sizes.append(len(taken))
        now += 1
    done, found = answered(arrivals, batch, wait, call, text)
    assert done == pytest.approx([expected[i] for i in range(len(arrivals))])
    assert found == sizes


def test_batches_help_where_one_at_a_time_is_overrun():
    explorer = widgets.queue_dial(call=0.009, text=0.001)
    explorer.controls["load"].value = 1.8
    explorer.controls["batch"].value = 32
    assert "180 requests/s, up to 32 together" in explorer.said
    ours, single = explorer.said.split("One at a time")
    late = [
        float(part.split(" ms")[0].replace(",", ""))
        for part in (ours.split("p95 ")[1], single.split("p95 ")[1])
    ]
    assert late[1] > 20 * late[0]


def test_only_widgets_of_version_7_are_used():
    core = {"HTML", "HBox", "VBox", "Layout", "Button", "Dropdown", "Text"}
    core |= {"IntSlider", "FloatSlider", "SelectionSlider"}
    used = set()
    for path in Path(widgets.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ipywidgets":
                used.add(node.attr)
    assert used
    assert used <= core
