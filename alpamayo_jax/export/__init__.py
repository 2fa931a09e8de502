"""From JAX to the car: programs for other runtimes, checked against what trained."""
