"""Labels of whole stores: made clip by clip, reported, and used in training."""

from alpamayo_jax.labelling.run import LABELLERS, Job, label_part, label_store
from alpamayo_jax.labelling.source import HOLD_S, WithLabels

__all__ = ["HOLD_S", "LABELLERS", "Job", "WithLabels", "label_part", "label_store"]
