"""What `experiments/benchmark.py` measures: one module per suite."""
