import jax
import jax.numpy as jnp
import numpy as np
import optax

from alpamayo_jax.train.optimiser import OptimiserConfig, make_optimiser, train_everything
from alpamayo_jax.train.state import create_state
from alpamayo_jax.train.step import make_train_step


def _objective(params, batch, rng):
    """Squared distance to noisy targets."""
    noise = 0.01 * jax.random.normal(rng, batch.shape)
    loss = jnp.mean(jnp.square(params["w"] - batch - noise))
    return loss, {"distance": jnp.sqrt(loss), "noise": noise[0]}


_SGD = train_everything(optax.sgd(0.1), {"w": 0})


def _start():
    params = {"w": jnp.arange(3.0)}
    return params, create_state(params, _SGD)


_BATCH = jnp.array([5.0, 5.0, 5.0])


def test_a_step_follows_the_gradient():
    params, state = _start()
    key = jax.random.key(0)
    after, metrics = make_train_step(_objective, _SGD)(state, _BATCH, key)
    (loss, _), grads = jax.value_and_grad(_objective, has_aux=True)(
        params, _BATCH, jax.random.fold_in(key, 0)
    )
    np.testing.assert_allclose(after.params["w"], params["w"] - 0.1 * grads["w"], rtol=1e-6)
    assert int(after.step) == 1
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], jnp.linalg.norm(grads["w"]), rtol=1e-6)
    assert set(metrics) == {"loss", "grad_norm", "finite", "distance", "noise"}


def test_the_loss_falls():
    config = OptimiserConfig(learning_rate=0.5, num_steps=60)
    params, _ = _start()
    optimiser = make_optimiser(config, params)
    state, step = create_state(params, optimiser), make_train_step(_objective, optimiser)
    losses = []
    for _ in range(60):
        state, metrics = step(state, _BATCH, jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.01 * losses[0]


def test_each_step_has_its_own_key_wherever_the_run_began():
    step, key = make_train_step(_objective, _SGD), jax.random.key(0)

    def run(state, count):
        noises = []
        for _ in range(count):
            state, metrics = step(state, _BATCH, key)
            noises.append(float(metrics["noise"]))
        return state, noises

    whole, noises = run(_start()[1], 4)
    half, first = run(_start()[1], 2)
    resumed, second = run(jax.device_put(jax.device_get(half)), 2)
    assert first + second == noises and len(set(noises)) == 4
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    assert int(resumed.step) == 4


def test_another_key_gives_another_run():
    step = make_train_step(_objective, _SGD)
    first, _ = step(_start()[1], _BATCH, jax.random.key(0))
    other, _ = step(_start()[1], _BATCH, jax.random.key(1))
    assert (first.params["w"] != other.params["w"]).any()


def test_the_state_is_donated_and_the_callers_parameters_are_not():
    params, state = _start()
    old = state.params["w"]
    make_train_step(_objective, _SGD)(state, _BATCH, jax.random.key(0))
    assert old.is_deleted() and not params["w"].is_deleted()


def test_a_step_is_compiled_once():
    traced = []

    def objective(params, batch, rng):
        traced.append(1)
        return _objective(params, batch, rng)

    step, (_, state) = make_train_step(objective, _SGD), _start()
    for _ in range(3):
        state, _ = step(state, _BATCH, jax.random.key(0))
    assert len(traced) == 1
