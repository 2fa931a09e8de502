"""Whether an answer is complete: reasoning, a whole trajectory, and an end."""

import numpy as np

from alpamayo_jax.rl.rewards.base import Episodes, Scores


class Format:
    """1 where a sample has reasoning, exactly one whole trajectory, and came to its end; else 0."""

    name, unit, low, high, cost = "format", "", 0.0, 1.0, False

    def __call__(self, episodes: Episodes) -> Scores:
        """Looks at nothing but the answer."""
        speaks = np.array([[bool(t.strip()) for t in row] for row in episodes.reasoning])
        whole = speaks & episodes.trajectory_valid & episodes.ended
        known = np.ones(episodes.shape, bool)
        return Scores(whole.astype(np.float32), known, known)
