"""What lies on a reviewer's desk: drives, labels, and pictures that are made when looked at."""

import collections
import math
import threading
from typing import Callable

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc.annotated import Annotations
from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.frames import camera_pictures, view_from_above
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.coc.timeline import FUTURE_S, HISTORY_S
from alpamayo_jax.data.sources import ClipSource
from alpamayo_jax.review.book import Book
from alpamayo_jax.review.pictures import motion_picture
from alpamayo_jax.types import InputError

KINDS = ("camera", "above", "motion")
_MOST_PICTURES, _MOST_CLIPS = 400, 3
_CAMERA_WIDTH, _ABOVE_SIZE = 960, 560


class Desk:
    """Drives and labels for the page; may be used from many threads."""

    def __init__(self, source: ClipSource, book: Book):
        """Looks up the names of the drives, and reads none of them yet.

        Args:
          source: of drives, with `clip_name(i)`.
          book: of labels.

        Raises:
          InputError: the source is defective, or names two drives alike.
        """
        self.book = book
        self._source, self._lock = source, threading.Lock()
        self._numbers: dict[str, int] = {}
        for number in range(len(source)):
            name = source.clip_name(number)
            if name in self._numbers:
                raise InputError(f"source {source.name}: two clips are called {name!r}")
            self._numbers[name] = number
        self._clips: collections.OrderedDict[str, Clip] = collections.OrderedDict()
        self._annotations: collections.OrderedDict[str, Annotations] = collections.OrderedDict()
        self._pictures: collections.OrderedDict[tuple, bytes] = collections.OrderedDict()

    @property
    def clips(self) -> list[str]:
        """The names of all drives."""
        return list(self._numbers)

    def clip(self, name: str) -> Clip:
        """A drive by its name; raises `InputError` where there is none, or it is defective."""
        with self._lock:
            return self._clip(name)

    def _clip(self, name: str) -> Clip:
        if name not in self._numbers:
            raise InputError(f"clip {name!r} is not in {self._source.name}")
        return _keep(
            self._clips, name, _MOST_CLIPS, lambda: self._source.clip(self._numbers[name])
        )

    def failures(self, label: CocLabel) -> list[str]:
        """What the checks of labels say against one: a rule and a sentence each."""
        found = check_label(label)
        with self._lock:
            clip = self._clip(label.clip)
            if clip.agents is not None or clip.map_lines is not None:
                known = _keep(
                    self._annotations, label.clip, _MOST_CLIPS, lambda: Annotations(clip)
                )
                # What a person saw in the pictures need not be annotated.
                claims = all(c.track is not None or c.fact for c in label.components)
                found += known.check(label, evidence=claims)
        return [f"{failure.rule.replace('_', ' ')}: {failure.message}" for failure in found]

    def span(self, name: str, keyframe_s: float, with_future: bool) -> tuple[float, float]:
        """Seconds relative to a keyframe that there is something to see of, at most -2 to 6."""
        t = self.clip(name).ego.t
        last = min(FUTURE_S, float(t[-1]) - keyframe_s) if with_future else 0.0
        return max(-HISTORY_S, float(t[0]) - keyframe_s), max(last, 0.0)

    def picture(
        self,
        kind: str,
        name: str,
        keyframe_s: float,
        t: float,
        with_future: bool,
        tracks: tuple[int, ...] = (),
    ) -> tuple[str, bytes]:
        """(MIME type, picture) of a moment.

        Args:
          kind: "camera" (the front one), "above" or "motion" (which does not depend on t).
          name: of the clip.
          keyframe_s, t: seconds on the clip's clock; without the future, t is the keyframe at most.
          with_future: whether anything after the keyframe may be shown.
          tracks: above: of road users to circle.

        Raises:
          InputError: no such clip, no such time, or no camera.
        """
        if not (math.isfinite(t) and math.isfinite(keyframe_s)):
            raise InputError(f"clip {name!r}: {keyframe_s} and {t} are not both times")
        t = t if with_future else min(t, keyframe_s)
        mime = "image/jpeg" if kind == "camera" else "image/png"
        when = (round(keyframe_s * 1000), 0 if kind == "motion" else round(t * 1000))

        def make() -> bytes:
            clip = self._clip(name)
            if kind == "camera":
                latest = None if with_future else keyframe_s
                return camera_pictures(clip, [t], latest, _CAMERA_WIDTH)[0].data
            if kind == "above":
                left = keyframe_s + FUTURE_S - t if with_future else 0.0
                return view_from_above(clip, t, _ABOVE_SIZE, max(left, 0.0), tracks)
            if kind == "motion":
                return motion_picture(clip, keyframe_s, with_future)
            raise InputError(f"there is no picture {kind!r}; known: {', '.join(KINDS)}")

        with self._lock:
            key = (kind, name, *when, with_future, tracks)
            return mime, _keep(self._pictures, key, _MOST_PICTURES, make)


def _keep(
    kept: collections.OrderedDict, key: object, most: int, make: Callable[[], object]
) -> object:
    """What is kept under `key`, made where it is not; the longest unused goes first."""
    if key not in kept:
        kept[key] = make()
        while len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
