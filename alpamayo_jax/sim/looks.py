"""Colours, light and weather of a rendered world."""

import dataclasses

import numpy as np

TILE = 256  # texels of the repeating texture
HILLS = 1024  # entries of the skyline
# What roads are made of: colour, and how smooth it is (grass is 0).
SURFACES = {
    "asphalt": ((88, 89, 92), 0.65),
    "white": ((234, 234, 230), 0.8),
    "yellow": ((230, 182, 46), 0.8),
    "dark": ((34, 34, 36), 0.8),
    "walk": ((150, 147, 140), 0.5),
}
_GRASS, _HILL = (98, 122, 58), (86, 112, 92)
_PAINTED = ("white", "yellow", "walk")


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """Colours (RGB, 0 to 255) and light of a world; all arrays float32.

    Attributes:
      zenith, horizon, hill, air, grass: colours [3]; things far away fade to that of the air.
      surfaces: key of `SURFACES` -> colour and smoothness [4].
      sun: unit vector towards the sun, world [3].
      ambient: share of the light that has no direction.
      haze: metres in which contrast falls to 1 / e.
      rain: 1 where it rains, else 0.
      texture: [256, 256], mean 0, deviation 1, repeats.
      skyline: [1024], elevation of the hills in radians by azimuth, repeats.
    """

    zenith: np.ndarray
    horizon: np.ndarray
    hill: np.ndarray
    air: np.ndarray
    grass: np.ndarray
    surfaces: dict[str, np.ndarray]
    sun: np.ndarray
    ambient: float
    haze: float
    rain: float
    texture: np.ndarray
    skyline: np.ndarray


_WEATHER = {
    # zenith, horizon, ambient, brightness of the ground, haze
    "clear": ((92, 142, 214), (196, 216, 236), 0.55, 1.0, (200.0, 340.0)),
    "overcast": ((158, 166, 178), (204, 207, 212), 0.8, 0.88, (160.0, 280.0)),
    "dusk": ((72, 84, 130), (236, 186, 140), 0.5, 0.72, (160.0, 300.0)),
    "rain": ((112, 120, 132), (158, 164, 172), 0.85, 0.66, (90.0, 140.0)),
    "fog": ((190, 194, 198), (204, 207, 209), 0.9, 0.9, (48.0, 75.0)),
}


def make_look(seed: int, weather: str) -> Look:
    """Draws light, colours and textures for one of `world.WEATHERS`."""
    rng = np.random.default_rng([seed, 5])
    zenith, horizon, ambient, bright, haze = _WEATHER[weather]

    def tint(colour: tuple[int, int, int], spread: float = 0.06) -> np.ndarray:
        change = rng.uniform(1 - spread, 1 + spread, 3)
        return (np.asarray(colour) * bright * change).astype(np.float32)

    noise = rng.standard_normal((TILE, TILE)).astype(np.float32)
    noise = noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
    angles = np.arange(HILLS) * (2 * np.pi / HILLS)
    waves = rng.integers(2, 24, 8)
    skyline = 0.022 + sum(
        0.03 / w * np.sin(w * angles + phase) for w, phase in zip(waves, rng.uniform(0, 6.28, 8))
    )
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.0)
    flat = np.cos(elevation)
    sun = [np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)]
    horizon = np.asarray(horizon, np.float32)
    hill = 0.55 * tint(_HILL) + 0.36 * horizon
    if weather == "fog":
        hill = 0.9 * horizon + 0.1 * hill
    wet = 0.72 if weather == "rain" else 1.0
    surfaces = {
        name: np.append(
            tint(colour, 0.02 if name in _PAINTED else 0.08) * (wet if name == "asphalt" else 1.0),
            smooth,
        ).astype(np.float32)
        for name, (colour, smooth) in SURFACES.items()
    }
    return Look(
        zenith=np.asarray(zenith, np.float32),
        horizon=horizon,
        hill=hill.astype(np.float32),
        air=(0.6 * hill + 0.4 * horizon).astype(np.float32),
        grass=tint(_GRASS, 0.12),
        surfaces=surfaces,
        sun=np.asarray(sun, np.float32),
        ambient=ambient,
        haze=float(rng.uniform(*haze)),
        rain=float(weather == "rain"),
        texture=(noise / noise.std()).astype(np.float32),
        skyline=np.maximum(skyline, 0.004).astype(np.float32),
    )
