"""Scenes by name: a folder of recorded clips, or the procedural world."""

import pathlib

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import FolderSource
from alpamayo_jax.sim.procedural import procedural_scene
from alpamayo_jax.sim.recorded import scene_from_clip
from alpamayo_jax.sim.scenarios import FAMILIES
from alpamayo_jax.sim.scenes import Scene

PROCEDURAL = "procedural"


def list_scenes(
    name: str, *, count: int = 0, seed: int = 0, seconds: float = 20.0, first: int = 0
) -> list[Scene]:
    """The scenes that `name` means.

    Args:
      name: a folder of clips, "procedural", or "procedural:FAMILY".
      count: procedural: how many, 0 for one of each family (or one of the family). Clips: at most
        so many, 0 for all.
      seed: of procedural scenes.
      seconds: length of procedural scenes.
      first: number of the first procedural scene; clips of one seed have the same numbers.

    Raises:
      ConfigError: an unknown family.
      InputError: no clip in the folder, or a defective one.
    """
    kind, _, family = name.partition(":")
    if kind == PROCEDURAL and not pathlib.Path(name).is_dir():
        if family and family not in FAMILIES:
            raise ConfigError(f"family {family!r} is unknown; known: {', '.join(FAMILIES)}")
        total = count or (1 if family else len(FAMILIES))
        return [
            procedural_scene(seed, index, seconds=seconds, family=family or None)
            for index in range(first, first + total)
        ]
    source = FolderSource(name)
    total = min(count or len(source), len(source))
    return [scene_from_clip(source.clip(index)) for index in range(total)]
