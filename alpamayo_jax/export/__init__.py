"""From JAX to the car: programs for other runtimes, checked against what trained.

`load` needs jax and NumPy alone; what writes exports is in the modules of this package.
"""

from alpamayo_jax.export.loading import Exported, Program, load
from alpamayo_jax.export.manifest import Artefact, Manifest, Parity, Port

__all__ = ["Artefact", "Exported", "Manifest", "Parity", "Port", "Program", "load"]
