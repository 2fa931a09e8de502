"""Pieces of the review page."""

from typing import TypeVar

from nicegui import ui

DENSE = "dense outlined options-dense"
Element = TypeVar("Element", bound=ui.element)


def tag(element: Element, name: str) -> Element:
    """Names an element for whoever drives the page; the framework needs `id` for itself."""
    return element.props(f"data-testid={name}")


def select(options: dict[str, str], label: str, name: str, classes: str, value: str) -> ui.select:
    """A small drop-down list: value -> what is shown."""
    return tag(ui.select(options, label=label, value=value).classes(classes).props(DENSE), name)


def heading(text: str, note: str) -> None:
    """The heading of a part of the page, with a remark."""
    with ui.row().classes("w-full items-baseline gap-2 mt-2"):
        ui.label(text).classes("font-semibold")
        small(note)


def small(text: str = "") -> ui.label:
    """A line of small grey text."""
    return ui.label(text).classes("text-xs text-gray-600")
