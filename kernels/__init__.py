"""Operations with more than one implementation, installed as `alpamayo_jax.kernels`.

One folder per operation; `reference` is the operation in plain XLA and defines what it computes.
"""
