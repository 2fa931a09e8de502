"""The right half of the review page: components, decisions, trace and verdict."""

from typing import Callable

from nicegui import ui

from alpamayo_jax.coc.component import Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, SpeedDetail
from alpamayo_jax.coc.scenarios import KEYFRAME_RULES, ScenarioClass
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.coc.vlm_prompt import (
    LATERAL_MEANING,
    LONGITUDINAL_MEANING,
    component_words,
    words,
)
from alpamayo_jax.review.elements import DENSE, heading, select, small, tag
from alpamayo_jax.review.form import (
    NONE,
    Form,
    attribute_choices,
    fact_words,
    new_component,
    seen_words,
    side_choices,
)
from alpamayo_jax.types import InputError


def _choices(kind: type, none: str) -> dict[str, str]:
    return {NONE: none} | {member.value: words(member.value) for member in kind}


class LabelPanel:
    """A form that holds one label; whoever builds it says what happens on changes."""

    def __init__(self, on_change: Callable[[], None]):
        """Builds the panel within the current element; `on_change` is called after every change."""
        self._on_change, self._loading = on_change, False
        self.form, self._keyframe, self.components_changed = Form(), 0.0, False
        self._scenario = select(
            _choices(ScenarioClass, "choose"), "Scenario", "scenario", "w-full", NONE
        )
        self._rule = small().classes("-mt-2")
        heading("1 · Critical components", "seen in the 2 s before the keyframe")
        self._list = tag(ui.column().classes("w-full gap-1"), "components")
        self._adder = _Adder(self._add)
        heading("2 · Decisions", "the first ones after the keyframe, at most one each")
        with ui.row().classes("w-full gap-2 no-wrap"):
            self._longitudinal = select(
                _choices(Longitudinal, "none"), "Speed", "longitudinal", "grow", NONE
            )
            self._speed = select(_choices(SpeedDetail, "-"), "How", "speed_detail", "w-32", NONE)
        self._means = small().classes("-mt-2")
        with ui.row().classes("w-full gap-2 no-wrap"):
            self._lateral = select(_choices(Lateral, "none"), "Path", "lateral", "grow", NONE)
            self._side = select({NONE: "-"}, "Side", "side", "w-32", NONE)
        self._means_path = small().classes("-mt-2")
        heading("3 · Trace", "the decision, then its cause; only what is listed above")
        self._trace = tag(ui.textarea(value="").classes("w-full"), "trace")
        self._trace.props("outlined autogrow dense")
        self._unobserved = tag(ui.input("Why no component explains it"), "unobserved")
        self._unobserved.classes("w-full").props("dense outlined")
        for element in (
            self._scenario, self._longitudinal, self._speed, self._lateral, self._side,
            self._trace, self._unobserved,
        ):  # fmt: skip
            element.on_value_change(self._read)

    def show(self, label: CocLabel | None, keyframe_s: float) -> None:
        """Fills the form with a label, or empties it for a new one."""
        self.form = Form() if label is None else Form.of(label)
        self._keyframe, self.components_changed, self._loading = keyframe_s, False, True
        form = self.form
        self._scenario.value = form.scenario
        self._longitudinal.value, self._speed.value = form.longitudinal, form.longitudinal_detail
        self._lateral.value = form.lateral
        self._side.set_options(_sides(form.lateral), value=form.lateral_detail)
        self._trace.value, self._unobserved.value = form.trace, form.unobserved
        self._loading = False
        self._adder.keyframe = keyframe_s
        self._refresh()
        self._list_components()

    def _read(self) -> None:
        """What the person changed, into the form."""
        if self._loading:
            return
        form = self.form
        form.scenario = self._scenario.value or NONE
        form.longitudinal = self._longitudinal.value or NONE
        form.longitudinal_detail = self._speed.value or NONE
        if (self._lateral.value or NONE) != form.lateral:
            form.lateral = self._lateral.value or NONE
            self._loading = True
            self._side.set_options(_sides(form.lateral), value=NONE)
            self._loading = False
        form.lateral_detail = self._side.value or NONE
        form.trace, form.unobserved = self._trace.value or "", self._unobserved.value or ""
        self._refresh()
        self._on_change()

    def _refresh(self) -> None:
        form = self.form
        self._rule.text = (
            f"Keyframe: {KEYFRAME_RULES[ScenarioClass(form.scenario)]}." if form.scenario else ""
        )
        speed, path = form.longitudinal, form.lateral
        self._means.text = LONGITUDINAL_MEANING[Longitudinal(speed)].capitalize() if speed else ""
        self._means_path.text = LATERAL_MEANING[Lateral(path)].capitalize() if path else ""
        self._speed.set_enabled(bool(speed))
        self._side.set_enabled(bool(side_choices(path)))
        self._unobserved.set_visibility(not form.components)

    def _add(self, component: Component) -> None:
        self.form.components.append(component)
        self._components_were_changed()

    def _remove(self, component: Component) -> None:
        self.form.components.remove(component)
        self._components_were_changed()

    def _components_were_changed(self) -> None:
        self.components_changed = True
        self._list_components()
        self._refresh()
        self._on_change()

    def _list_components(self) -> None:
        self._list.clear()
        with self._list:
            for component in self.form.components:
                self._row(component)
            if not self.form.components:
                ui.label("None. Add one, or say below why none explains the decision.").classes(
                    "text-sm text-gray-600"
                )

    def _row(self, component: Component) -> None:
        with ui.row().classes("w-full items-center no-wrap gap-2 rounded bg-gray-100 px-2 py-1"):
            with ui.column().classes("gap-0 grow"):
                with ui.row().classes("gap-2 items-baseline"):
                    ui.label(words(component.kind)).classes("text-sm font-semibold")
                    ui.label(component_words(component)).classes("text-sm")
                facts = fact_words(component)
                seen = seen_words(component, self._keyframe)
                small(seen + (f" · {facts}" if facts else ""))
            ui.button(icon="close", on_click=lambda: self._remove(component)).props(
                'flat round dense size=sm color=grey-8 aria-label="Remove component"'
            )


class _Adder:
    """Fields for one more component."""

    def __init__(self, on_add: Callable[[Component], None]):
        self.keyframe, self._on_add, self._fields = 0.0, on_add, {}
        self._expansion = tag(ui.expansion("Add a component", icon="add"), "adder")
        with self._expansion.classes("w-full text-sm").props("dense"):
            kinds = {kind.value: words(kind) for kind in Kind}
            self._kind = select(kinds, "Kind", "kind", "w-full", Kind.OBJECT.value)
            self._kind.on_value_change(self._draw_fields)
            self._grid = ui.element("div").classes("grid grid-cols-2 gap-2 w-full mt-2")
            with ui.row().classes("w-full items-center gap-3 mt-2 no-wrap"):
                ui.label("Seen").classes("text-sm")
                self._before = ui.slider(min=0.0, max=2.0, step=0.1, value=0.0).classes("grow")
                ui.label().bind_text_from(
                    self._before, "value", lambda v: f"{v:.1f} s before"
                ).classes("text-sm whitespace-nowrap tabular-nums")
                tag(ui.button("Add", on_click=self._done), "add").props("unelevated dense no-caps")
        self._draw_fields()

    def _draw_fields(self) -> None:
        self._grid.clear()
        self._fields = {}
        with self._grid:
            for name, values in attribute_choices(self._kind.value).items():
                label, identity = words(name), f"attribute_{name}"
                if values is None:
                    field = tag(ui.input(label).props(DENSE), identity)
                else:
                    options = {NONE: "-"} | {value: words(value) for value in values}
                    field = select(options, label, identity, "", NONE)
                self._fields[name] = field

    def _done(self) -> None:
        given = {name: field.value for name, field in self._fields.items()}
        try:
            component = new_component(
                self._kind.value, given, float(self._before.value), self.keyframe
            )
        except InputError as error:
            ui.notify(str(error), type="warning")
            return
        self._draw_fields()
        self._expansion.close()
        self._on_add(component)


def _sides(lateral: str) -> dict[str, str]:
    return {NONE: "-"} | {side: side for side in side_choices(lateral)}
