"""Dials to turn: ipywidgets over the course's plots.

Each function returns an `Explorer`: controls with labels, which the keyboard moves, a picture that
follows them, and a sentence that says what it shows. Where no kernel runs (GitHub, a printed page,
a saved notebook) the same cell shows the picture of the starting position, with words for a reader
who cannot see it. `explorer` says how; the other modules hold a lesson's widget each.
"""

from course_utils.widgets.chatting import chat_window
from course_utils.widgets.descent import gradient_descent_stepper
from course_utils.widgets.explorer import Explorer
from course_utils.widgets.heat import token_heatmap
from course_utils.widgets.mixing import mixing_dial
from course_utils.widgets.queueing import queue_dial
from course_utils.widgets.ranks import rank_dial
from course_utils.widgets.reading import attention_viewer, token_explorer
from course_utils.widgets.sampling import sampling_dial
from course_utils.widgets.scaling import loss_scale_dial
from course_utils.widgets.stopping import overfitting_explorer
from course_utils.widgets.thresholds import threshold_dial
from course_utils.widgets.watching import alarm_dashboard

__all__ = [
    "Explorer",
    "alarm_dashboard",
    "attention_viewer",
    "chat_window",
    "gradient_descent_stepper",
    "loss_scale_dial",
    "mixing_dial",
    "overfitting_explorer",
    "queue_dial",
    "rank_dial",
    "sampling_dial",
    "threshold_dial",
    "token_explorer",
    "token_heatmap",
]
