"""A small source of drives for tests of the review."""

from alpamayo_jax.sim.source import ProceduralSource


class Drives(ProceduralSource):
    """Procedural drives with small pictures."""

    name = "drives"

    def clip_name(self, index):
        return self.clip(index).clip_id


def drives(count=2, **options):
    return Drives(num_clips=count, seed=4, seconds=16.0, image_size=(64, 48), **options)
