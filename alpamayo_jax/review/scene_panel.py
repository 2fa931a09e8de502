"""The left half of the review page: pictures, a slider of time, and the plots of motion."""

from typing import Callable
from urllib.parse import urlencode

from nicegui import ui

from alpamayo_jax.review.desk import Desk
from alpamayo_jax.review.elements import tag

_STEP_S, _ABOVE_STEP_S = 0.1, 0.5  # of the slider; of the view from above, which takes time to draw
_PLAY_S = 0.2


class ScenePanel:
    """Shows the seconds before a keyframe, and on demand those after it."""

    def __init__(self, desk: Desk, on_future: Callable[[], None]):
        """Builds the panel within the current element.

        Args:
          desk: gives the pictures.
          on_future: called when the person asks to see what followed.
        """
        self._desk, self._on_future = desk, on_future
        self._clip, self._keyframe, self._with_future = "", 0.0, False
        self._tracks: list[int] = []
        with ui.row().classes("w-full items-center gap-3 no-wrap min-h-10"):
            self._stage = tag(ui.label().classes("text-base font-semibold grow"), "stage")
            self._reveal = tag(
                ui.button("Show what followed", icon="visibility", on_click=on_future), "reveal"
            ).props("no-caps unelevated color=green-8")
        self._camera = _picture("camera", "w-full rounded")
        with ui.row().classes("w-full items-center gap-3 no-wrap"):
            self._play = tag(ui.button(icon="play_arrow", on_click=self.toggle), "play")
            self._play.props("round dense unelevated").tooltip("Play (space)")
            self._slider = ui.slider(min=-2.0, max=0.0, step=_STEP_S, value=0.0).classes("grow")
            self._slider.on_value_change(self._show_time)
            self._time = tag(ui.label().classes("w-20 text-right tabular-nums"), "time")
        with ui.row().classes("w-full gap-4 no-wrap items-start"):
            self._above = _picture("above", "w-[47%]")
            self._motion = _picture("motion", "w-[51%]")
        self._timer = ui.timer(_PLAY_S, self._advance, active=False)

    def show(self, clip: str, keyframe_s: float, with_future: bool) -> None:
        """Shows a keyframe; without the future nothing after it can be reached.

        Raises:
          InputError: the clip is not there, or defective.
        """
        start, end = self._desk.span(clip, keyframe_s, with_future)
        self._clip, self._keyframe, self._with_future = clip, keyframe_s, with_future
        has_camera = bool(self._desk.clip(clip).cameras)
        self._camera.set_visibility(has_camera)
        # Without a camera the view from above is what one looks at.
        small, large = ("w-[47%]", "w-[51%]"), ("w-[58%]", "w-[40%]")
        for picture, widths in zip((self._above, self._motion), zip(small, large)):
            picture.classes(widths[not has_camera], remove=widths[has_camera])
        self._stop()
        self._stage.text = (
            f"Stage II · what followed ({end:.0f} s)" if with_future
            else f"Stage I · what was in view ({-start:.0f} s)"
        )  # fmt: skip
        self._reveal.set_visibility(not with_future)
        self._slider.props(f"min={start:.1f} max={end:.1f}")
        self._slider.value = 0.0
        self._motion.props(f'src="{self._url("motion", 0.0)}"')
        self._show_time()

    def mark(self, tracks: list[int]) -> None:
        """Circles road users in the view from above."""
        if tracks != self._tracks:
            self._tracks = tracks
            self._show_time()

    def toggle(self) -> None:
        """Plays, from the start where the end is reached, or stops."""
        if self._timer.active:
            self._stop()
            return
        if self._slider.value >= self._end - 1e-6:
            self._slider.value = self._slider.props["min"]
        self._play.props("icon=pause")
        self._timer.active = True

    @property
    def _end(self) -> float:
        return float(self._slider.props["max"])

    def _stop(self) -> None:
        self._timer.active = False
        self._play.props("icon=play_arrow")

    def _advance(self) -> None:
        self._slider.value = min(round(float(self._slider.value) + _PLAY_S, 1), self._end)
        if self._slider.value >= self._end - 1e-6:
            self._stop()

    def _show_time(self) -> None:
        if not self._clip:
            return
        seconds = float(self._slider.value)
        self._time.text = f"{seconds:+.1f} s"
        if self._camera.visible:
            self._camera.props(f'src="{self._url("camera", seconds)}"')
        step = round(seconds / _ABOVE_STEP_S) * _ABOVE_STEP_S
        self._above.props(f'src="{self._url("above", step)}"')

    def _url(self, kind: str, seconds: float) -> str:
        return f"/picture/{kind}?" + urlencode({
            "clip": self._clip,
            "keyframe": f"{self._keyframe:.3f}",
            "t": f"{self._keyframe + seconds:.3f}",
            "future": int(self._with_future),
            "tracks": ",".join(map(str, self._tracks)) if kind == "above" else "",
        })


def _picture(name: str, classes: str) -> ui.element:
    # A bare img: the framework's image fades between sources, which a film must not.
    image = ui.element("img").classes(classes).props(f'alt="{name}" draggable=false')
    return tag(image, name)
