"""Several sources as one, each with its share of every batch, and questions beside drives."""

import dataclasses
from typing import Protocol, Sequence

from alpamayo_jax.clip import Clip
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.types import Observation, Target


class ExampleSource(Protocol):
    """A source whose rows are not windows of a clip, such as questions; `len` is how many."""

    name: str

    def __len__(self) -> int: ...

    def example(self, window: Window) -> tuple[Observation, Target]:
        """What is seen, and what should be said and done."""

    def outline(self, window: Window) -> tuple[Observation, Target]:
        """As `example`, with images of the right sizes but without their content, at no cost."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One source of a mixture.

    Attributes:
      source: clips or examples.
      windows: which of them; of examples (number, 0.0).
      weight: share of the rows, relative to the other parts; above 0.
    """

    source: ClipSource | ExampleSource
    windows: tuple[Window, ...]
    weight: float = 1.0


class Mixture:
    """The parts as one source: window numbers of part k count on from those of the parts before.

    Wherever a source and its windows are asked for, a mixture and its `windows` can be given; rows
    then come in the shares of the weights, each part in its own order and again from its beginning
    when it is through.
    """

    def __init__(self, parts: Sequence[Part]):
        """Raises `ConfigError` for no part, or one without windows or a weight above 0."""
        if not parts:
            raise ConfigError("a mixture needs at least one part")
        for part in parts:
            if not part.windows or not part.weight > 0:
                raise ConfigError(
                    f"mixture: {part.source.name} has {len(part.windows)} windows and weight "
                    f"{part.weight}; both must be above 0"
                )
        self.parts = tuple(parts)
        self.name = "a mixture of " + ", ".join(
            f"{part.weight:g} x {part.source.name}" for part in parts
        )
        self._first = [0]
        for part in parts:
            self._first.append(self._first[-1] + len(part.source))

    def __len__(self) -> int:
        return self._first[-1]

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the parts."""
        return tuple(part.weight for part in self.parts)

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows of all parts, by number in the mixture."""
        return tuple(
            (first + number, t0)
            for first, part in zip(self._first, self.parts)
            for number, t0 in part.windows
        )

    def clip(self, index: int) -> Clip:
        """Clip number `index`; raises `ConfigError` where that is no clip but an example."""
        place, number = self._find(index)
        source = self.parts[place].source
        if not hasattr(source, "clip"):
            raise ConfigError(f"{source.name} has examples, no clips")
        return source.clip(number)

    def clip_name(self, index: int) -> str:
        """What row source number `index` is called."""
        place, number = self._find(index)
        source = self.parts[place].source
        named = getattr(source, "clip_name", None)
        return named(number) if named else source.clip(number).clip_id

    def group(self, windows: Sequence[Window]) -> list[list[Window]]:
        """The windows of each part, in order; raises `ConfigError` for a part without any."""
        groups: list[list[Window]] = [[] for _ in self.parts]
        for window in windows:
            groups[self._find(window[0])[0]].append(window)
        for part, group in zip(self.parts, groups):
            if not group:
                raise ConfigError(f"mixture: no window of {part.source.name} is left")
        return groups

    def own(self, window: Window) -> tuple[ClipSource | ExampleSource, Window]:
        """The source of a window, and the window by that source's number."""
        place, number = self._find(window[0])
        return self.parts[place].source, (number, window[1])

    def _find(self, index: int) -> tuple[int, int]:
        for place in range(len(self.parts)):
            if self._first[place] <= index < self._first[place + 1]:
                return place, index - self._first[place]
        raise IndexError(f"clip {index} is not in a mixture of {len(self)}")
