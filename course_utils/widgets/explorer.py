"""What every widget is made of: controls, a picture that follows them, words that say it.

A step must feel like a movement, so nothing is computed twice: curves and paths are computed
once, the axes are drawn once, and a step draws only what moved (*blitting*).

Only the widgets that ipywidgets 7 and 8 share are used: Google Colab has version 7. Left out on
purpose: `interact`, which prints into the output and cannot keep a picture beside it.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

LABELS = {"description_width": "initial"}  # as wide as the label is, so that none is cut
WIDE = {"width": "25em"}
GREY, RED = "#444444", "#D55E00"


class Stage:
    """A figure of which a few artists move; the rest is drawn once and kept as a background.

    Parameters
    ----------
    figure : Figure
        Complete, the moving artists included.
    moving : sequence of Artist
        Drawn anew by every `png`, in this order, on top of the rest.
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist]) -> None:
        self.figure, self.moving = figure, list(moving)
        self.canvas = FigureCanvasAgg(figure)
        for artist in self.moving:
            artist.set_animated(True)  # left out when the whole figure is drawn
        self.canvas.draw()
        figure.set_layout_engine("none")  # what moves must not move the axes
        self.background = self.canvas.copy_from_bbox(figure.bbox)

    def png(self) -> bytes:
        """Return the picture as it is now."""
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            self.figure.draw_artist(artist)
        file = io.BytesIO()
        # Few colours and little effort: a step is worth more than the last kilobyte.
        Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB").save(
            file, "PNG", compress_level=1
        )
        return file.getvalue()


class Explorer:
    """Controls, a view that follows them, and a picture for where they cannot be used.

    Parameters
    ----------
    controls : mapping of str to widget
        By the name under which `step` gets each value.
    step : callable
        Gets all values by name; returns the view as HTML, and the words that say what it shows.
    picture : bytes, optional
        PNG of the starting position. If not given, the view must be one: see `drawn`.
    buttons : mapping of str to callable
        Text on a button, and what pressing it returns: the new values of some controls.

    Attributes
    ----------
    controls : dict of str to widget
    view, words : ipywidgets.HTML
    box : ipywidgets.VBox
        All of it, for a page of your own.
    """

    def __init__(
        self,
        controls: Mapping[str, Any],
        step: Callable[..., tuple[str, str]],
        picture: bytes,
        buttons: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
    ) -> None:
        self.controls, self.step, self.picture = dict(controls), step, picture
        self.view, self.words = ipywidgets.HTML(), ipywidgets.HTML()
        self.buttons = [self._button(text, press) for text, press in (buttons or {}).items()]
        row = ipywidgets.Layout(flex_flow="row wrap")
        parts = [ipywidgets.HBox([*self.controls.values(), *self.buttons], layout=row)]
        self.box = ipywidgets.VBox([*parts, self.view, self.words])
        for control in self.controls.values():
            control.observe(self._follow, names="value")
        self._follow()
        self.alt = html.unescape(self.said)

    def _follow(self, change: object = None) -> None:
        self.view.value, self.said = self.step(
            **{name: control.value for name, control in self.controls.items()}
        )
        self.words.value = f'<div role="status" style="line-height: 1.5">{self.said}</div>'

    def _button(self, text: str, press: Callable[[], dict[str, Any]]) -> ipywidgets.Button:
        def pressed(_: object) -> None:
            for name, value in press().items():
                self.controls[name].value = value

        button = ipywidgets.Button(description=text, layout={"width": "7em"})
        button.on_click(pressed)
        return button

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """One output: the widget where a kernel runs, the picture and its words elsewhere."""
        widget = {"model_id": self.box.model_id, "version_major": 2, "version_minor": 0}
        data = {
            "application/vnd.jupyter.widget-view+json": widget,
            "image/png": base64.b64encode(self.picture).decode(),
            "text/plain": self.alt,
        }
        return data, {"image/png": {"alt": self.alt}}


def choice(options: Sequence[tuple[str, Any]], description: str) -> Any:
    """Return a slider over named things; a dropdown if there is but one.

    JupyterLab takes a dropdown's keys for its own: an arrow goes to the next cell, an x cuts it.
    """
    kind = ipywidgets.SelectionSlider if len(options) > 1 else ipywidgets.Dropdown
    layout = {"width": "30em", "margin": "2px 1.5em 2px 2px"}  # room for a name beside the slider
    return kind(options=list(options), description=description, style=LABELS, layout=layout)


def counted(number: float, thing: str) -> str:
    """Return the number of things in words.

    Examples
    --------
    >>> counted(1, "word"), counted(2.5, "word"), counted(1200, "word")
    ('1 word', '2.5 words', '1,200 words')
    """
    return f"{number:,.10g} {thing}{'s' * (number != 1)}"


def image(png: bytes, alt: str) -> str:
    """Return an HTML image of a PNG: of known size, and decoded at once, so that nothing jumps."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    data = base64.b64encode(png).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" decoding="sync" '
        f'style="width: {width}px; max-width: 100%; aspect-ratio: {width} / {height}">'
    )
