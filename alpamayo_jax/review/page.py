"""The review page: one keyframe at a time, what was seen apart from what followed.

A person first looks at the two seconds before the keyframe and settles the critical components,
then asks for the six seconds after it and settles the decisions and the trace, as the dataset of
the paper was labelled. Nobody has to be trusted to do it in that order: components that are changed
after the future was shown are marked in the file of edits.
"""

import functools
from typing import Callable

import fastapi
from nicegui import app, ui
from starlette.middleware.trustedhost import TrustedHostMiddleware

from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.review.book import Conflict, Key
from alpamayo_jax.review.desk import Desk
from alpamayo_jax.review.edits import Action, Role
from alpamayo_jax.review.elements import small, tag
from alpamayo_jax.review.label_panel import LabelPanel
from alpamayo_jax.review.scene_panel import ScenePanel
from alpamayo_jax.types import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TITLE = "Chain of Causation review"
_ROLES = {Role.ANNOTATOR: "annotator", Role.SECOND: "second annotator", Role.AUDIT: "audit"}
_COLOURS = {"proposed": "grey-7", "accepted": "green-8", "rejected": "red-8"}


def serve(
    desk: Desk,
    host: str,
    port: int,
    author: str = "",
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serves the page until the process is stopped.

    Args:
      desk: drives and labels.
      host: address to listen on; on loopback, only requests for this machine's name are answered.
      port: to listen on.
      author: name that is filled in.
      on_stop: called when the page is stopped.
    """
    if on_stop is not None:
        app.on_shutdown(on_stop)
    if host in LOOPBACK:
        # Else any web page could read the recordings, by giving its own name this address.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))
    app.get("/picture/{kind}")(functools.partial(_picture, desk))

    @ui.page("/", title=TITLE)
    def page(author: str = author, role: str = Role.ANNOTATOR.value, clip: str = "", t: str = ""):
        ReviewPage(desk, author, role, clip, t)

    ui.run(
        host=host, port=port, title=TITLE, reload=False, show=False, show_welcome_message=False
    )


def _picture(
    desk: Desk, kind: str, clip: str, keyframe: float, t: float, future: int = 0, tracks: str = ""
) -> fastapi.Response:
    try:
        marked = tuple(int(track) for track in tracks.split(",") if track.isdecimal())[:16]
        mime, data = desk.picture(kind, clip, keyframe, t, bool(future), marked)
    except InputError as error:
        return fastapi.Response(str(error), 404, media_type="text/plain")
    return fastapi.Response(data, media_type=mime, headers={"Cache-Control": "max-age=3600"})


class ReviewPage:
    """One open page."""

    def __init__(self, desk: Desk, author: str, role: str, clip: str, t: str):
        """Builds the page; `clip` and `t` choose a keyframe, "" the first one that is due."""
        self._desk, self._key = desk, None
        self._future, self._base = False, 0
        ui.colors(primary="#1f6fd6")
        ui.query(".nicegui-content").classes("p-0 gap-0")
        ui.query("body").classes("bg-white")
        self._header(author, role if role in list(Role) else Role.ANNOTATOR.value)
        self._empty = ui.label("There is no label yet. Begin one with the plus sign.")
        self._empty.classes("text-base p-5")
        self._body = ui.row().classes("w-full no-wrap items-start gap-6 px-5 py-4")
        with self._body:
            with ui.column().classes("w-[56%] gap-3 sticky top-16"):
                self._scene = ScenePanel(desk, self._show_future)
            with ui.column().classes("w-[44%] gap-2"):
                self._title_row()
                self._form = LabelPanel(self._changed)
                self._problems = tag(ui.column().classes("w-full gap-0"), "problems")
                self._verdict_row()
                history = tag(ui.expansion("History", icon="history"), "history")
                with history.classes("w-full text-sm").props("dense"):
                    self._history = ui.column().classes("w-full gap-1")
        self._dialog = _NewKeyframe(desk, self._begin)
        ui.keyboard(self._on_key)
        self._open(self._wanted(clip, t) or self._due(None) or next(iter(desk.book.keys), None))

    def _header(self, author: str, role: str) -> None:
        with ui.header().classes("items-center gap-4 px-5 py-2 bg-slate-800 no-wrap"):
            ui.label(TITLE).classes("text-lg font-semibold whitespace-nowrap")
            self._counts = tag(ui.label().classes("text-sm text-slate-300 grow"), "counts")
            self._author = ui.input("Your name", value=author).classes("w-40")
            self._role = ui.select(
                {name.value: text for name, text in _ROLES.items()}, label="You work as", value=role
            ).classes("w-44")
            for field, name in ((self._author, "author"), (self._role, "role")):
                tag(field, name).props("dark dense outlined options-dense")
            self._role.on_value_change(lambda: self._open(self._due(None) or self._key))
            for icon, text, go in (
                ("chevron_left", "Previous (p)", lambda: self._step(-1)),
                ("chevron_right", "Next (n)", lambda: self._step(1)),
                ("add", "New keyframe", lambda: self._dialog.open()),
            ):
                ui.button(icon=icon, on_click=go).props(
                    f'flat round dense color=white aria-label="{text}"'
                ).tooltip(text)

    def _title_row(self) -> None:
        with ui.row().classes("w-full items-center gap-3 no-wrap"):
            with ui.column().classes("gap-0 grow min-w-0"):
                self._name = tag(ui.label().classes("text-base font-semibold break-all"), "name")
                self._origin = tag(small(), "origin")
            self._status = tag(ui.badge().classes("text-sm px-2 py-1"), "status")

    def _verdict_row(self) -> None:
        self._note = tag(ui.input("Note (needed to reject)").classes("w-full"), "note")
        self._note.props("dense outlined")
        with ui.row().classes("w-full gap-2"):
            for text, icon, colour, action in (
                ("Accept", "check", "green-8", Action.ACCEPT),
                ("Reject", "block", "red-8", Action.REJECT),
                ("Save only", "save", "grey-8", Action.SAVE),
            ):
                record = functools.partial(self._record, action)
                button = tag(ui.button(text, icon=icon, on_click=record), action.value)
                button.props(f"no-caps unelevated color={colour}")

    def _wanted(self, clip: str, t: str) -> Key | None:
        try:
            key = (clip, round(float(t) * 1000))
        except (ValueError, OverflowError):
            return None
        return key if key in self._desk.book.keys else None

    def _due(self, after: Key | None) -> Key | None:
        name = (self._author.value or "").strip()
        return self._desk.book.next_for(name, Role(self._role.value), after)

    def _step(self, by: int) -> None:
        keys = self._desk.book.keys
        if keys:
            at = keys.index(self._key) + by if self._key in keys else 0
            self._open(keys[at % len(keys)])

    def _begin(self, clip: str, keyframe_s: float) -> None:
        self._open((clip, round(keyframe_s * 1000)))

    def _open(self, key: Key | None) -> None:
        """Shows a keyframe; one that has no label yet gets an empty form."""
        self._count()
        self._key = key
        self._empty.set_visibility(key is None)
        self._body.set_visibility(key is not None)
        if key is None:
            return
        known = key in self._desk.book.keys
        entry = self._desk.book.entry(key) if known else None
        label = entry.label if known else None
        self._base = len(entry.edits) if known else 0
        # Who audits judges the whole; the other two go through the stages.
        self._future = Role(self._role.value) is Role.AUDIT
        keyframe_s = label.keyframe_s if known else key[1] / 1000
        try:
            self._scene.show(key[0], keyframe_s, self._future)
        except InputError as error:
            ui.notify(str(error), type="negative", timeout=0, close_button=True)
        self._form.show(label, keyframe_s)
        self._scene.mark(self._tracks())
        self._note.value = ""
        self._name.text = f"{key[0]} at {keyframe_s:.1f} s"
        self._origin.text = f"by {label.author}" if known else "new"
        status = label.status.value if known else "proposed"
        self._status.text = status
        self._status.props(f"color={_COLOURS[status]}")
        self._tell_history(entry.edits if known else ())
        self._tell_problems()

    def _show_future(self) -> None:
        if self._key is not None:
            self._future = True
            self._form.components_changed = False
            self._scene.show(self._key[0], self._key[1] / 1000, True)

    def _changed(self) -> None:
        self._scene.mark(self._tracks())
        self._tell_problems()

    def _tracks(self) -> list[int]:
        return [c.track for c in self._form.form.components if c.track is not None]

    def _label(self) -> CocLabel:
        return self._form.form.label(self._key[0], self._keyframe_s())

    def _keyframe_s(self) -> float:
        known = self._key in self._desk.book.keys
        return self._desk.book.entry(self._key).label.keyframe_s if known else self._key[1] / 1000

    def _tell_problems(self) -> None:
        if self._key is None:
            return
        try:
            found = self._desk.failures(self._label())
        except InputError as error:
            found = [str(error)]
        self._problems.clear()
        with self._problems:
            for text in found:
                with ui.row().classes("items-start gap-2 no-wrap"):
                    ui.icon("error_outline", color="orange-9").classes("mt-0.5")
                    ui.label(text).classes("text-sm")
            if not found:
                with ui.row().classes("items-center gap-2"):
                    ui.icon("task_alt", color="green-8")
                    ui.label("All checks pass.").classes("text-sm")

    def _tell_history(self, edits) -> None:
        self._history.clear()
        with self._history:
            for edit in reversed(edits):
                late = " · components changed after the future was shown" * edit.late_components
                ui.label(
                    f"{edit.time[:16].replace('T', ' ')} UTC · {edit.author} ({edit.role}) · "
                    f"{edit.action}{late}"
                ).classes("text-sm")
                for text in (edit.note, f"“{edit.label.trace}”"):
                    if text:
                        ui.label(text).classes("text-xs text-gray-600 -mt-1")
            if not edits:
                ui.label("Nobody has looked at this label yet.").classes("text-sm text-gray-600")

    def _record(self, action: Action) -> None:
        if self._key is None:
            return
        try:
            self._desk.book.record(
                self._label(),
                self._author.value,
                Role(self._role.value),
                action,
                self._base,
                self._note.value or "",
                self._future and self._form.components_changed,
            )
        except Conflict as error:
            ui.notify(str(error), type="warning")
            self._open(self._key)
            return
        except InputError as error:
            ui.notify(str(error), type="warning")
            return
        ui.notify({"save": "Saved", "accept": "Accepted", "reject": "Rejected"}[action.value])
        due = self._key if action is Action.SAVE else self._due(self._key)
        if due is None:
            ui.notify("Nothing is left for you in this pass.")
        self._open(due or self._key)

    def _count(self) -> None:
        summary = self._desk.book.summary()
        self._counts.text = (
            f"{summary['labels']} labels · {summary['accepted']} accepted · "
            f"{summary['rejected']} rejected · {summary['checked_twice']} checked twice"
        )

    def _on_key(self, event) -> None:
        if event.action.keydown and not event.action.repeat:
            if event.key == "n":
                self._step(1)
            elif event.key == "p":
                self._step(-1)
            elif event.key.space:
                self._scene.toggle()


class _NewKeyframe:
    """Asks for a drive and a time."""

    def __init__(self, desk: Desk, on_chosen: Callable[[str, float], None]):
        self._desk, self._on_chosen = desk, on_chosen
        with ui.dialog() as self._dialog, ui.card().classes("w-96"):
            ui.label("New keyframe").classes("font-semibold")
            self._clip = ui.select(desk.clips, label="Drive", with_input=True).classes("w-full")
            self._t = ui.number("Seconds on the drive's clock", step=0.1, format="%.1f")
            self._t.classes("w-full")
            with ui.row():
                ui.button("Begin", on_click=self._done).props("no-caps unelevated")
                ui.button("Cancel", on_click=self._dialog.close).props("no-caps flat")

    def open(self) -> None:
        self._dialog.open()

    def _done(self) -> None:
        try:
            if not self._clip.value or self._t.value is None:
                raise InputError("choose a drive and a time")
            ego_t, t = self._desk.clip(self._clip.value).ego.t, round(float(self._t.value), 1)
            if not ego_t[0] + 2.0 <= t <= ego_t[-1] - 1.0:
                raise InputError(f"the time must be {ego_t[0] + 2:.1f} to {ego_t[-1] - 1:.1f} s")
        except InputError as error:
            ui.notify(str(error), type="warning")
            return
        self._dialog.close()
        self._on_chosen(self._clip.value, t)


