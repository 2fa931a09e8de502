"""Suite kernels: what is measured, what is only lowered, and what would become the default."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax import kernels as kernels_room
from alpamayo_jax.benchmark import floors, kernels
from alpamayo_jax.kernels.cases import Case, bytes_of

PEAKS = floors.Peaks(flops=1e9, bandwidth=1e9)


def _case(**changes):
    def arguments():
        return jnp.arange(6.0).reshape(2, 3), jnp.ones(3)

    case = dict(name="case", arguments=arguments, flops=6.0, moved=1e6)
    return Case(**(case | changes))


def _operation(others):
    """x * y, and implementations of it by name."""

    def function(x, y, *, implementation, factor=1.0):
        made = {"xla": lambda: x * y * factor} | {k: lambda f=f: f(x, y) for k, f in others.items()}
        return made[implementation]()

    return kernels.Operation(function, lambda: [_case()], lambda: [_case()], tuple(others))


def test_every_operation_of_the_kernels_is_there():
    rooms = pathlib.Path(kernels_room.__file__).parent.glob("*/shapes.py")
    assert set(kernels.OPERATIONS) == {path.parent.name for path in rooms}
    assert len(kernels.OPERATIONS) >= 8


@pytest.mark.parametrize("name", kernels.OPERATIONS)
def test_cases_are_calls_of_the_operation(name):
    operation = kernels.OPERATIONS[name]
    assert "pallas" in operation.others
    found = [*operation.cases(), *operation.small()]
    assert len({case.name for case in operation.cases()}) == len(operation.cases())
    for case in found:
        assert case.flops > 0 and case.moved > 0
        out = jax.eval_shape(operation.call(case, "xla", False), *case.specs())
        # What is read and written at least: no less than the result.
        assert case.moved >= bytes_of(out) - 1
        if case.wrt:
            slopes = jax.eval_shape(operation.call(case, "xla", True), *case.specs())
            wanted = [case.specs()[at].shape for at in case.wrt]
            assert [slope.shape for slope in slopes] == wanted


def test_real_cases_are_those_of_the_release():
    cases = {case.name: case for case in kernels.OPERATIONS["flow_attention"].cases()}
    assert cases["3006_keys/6"].specs()[0].shape == (1, 6, 64, 16, 128)
    small = kernels.OPERATIONS["flow_attention"].small()
    assert max(case.flops for case in small) < 1e9


def test_implementations_take_turns_and_are_compared():
    operation = _operation({"right": lambda x, y: y * x, "wrong": lambda x, y: x * y + 1.0})
    found = kernels.measure(operation, _case(wrt=(0,)), PEAKS, 2, operation.others)
    assert set(found) == {
        f"case/{part}{name}" for part in ("", "backward/") for name in ("xla", "right", "wrong")
    }
    assert found["case/xla"]["floor"] == 1e-3 and "speedup" not in found["case/xla"]
    assert found["case/backward/xla"]["floor"] == 2e-3
    assert found["case/right"]["error"] == 0.0
    assert found["case/wrong"]["error"] > 0.05
    assert found["case/backward/wrong"]["error"] == 0.0
    row = found["case/right"]
    assert row["times"] == 2 and row["ratio_to_floor"] == row["median"] / row["floor"]
    assert row["speedup"] == pytest.approx(found["case/xla"]["median"] / row["median"])


def test_what_fails_is_said_and_xla_must_not():
    def broken(x, y):
        raise NotImplementedError("no such instruction\nand more")

    found = kernels.measure(_operation({"broken": broken}), _case(), PEAKS, 1, ("broken",))
    assert found["case/broken"]["status"] == "fails: no such instruction"
    assert found["case/broken"]["median"] is None and found["case/xla"]["median"] > 0
    bad = kernels.Operation(lambda x, y, *, implementation: broken(x, y), list, list)
    with pytest.raises(NotImplementedError):
        kernels.measure(bad, _case(), PEAKS, 1, ())


def test_options_reach_the_operation():
    call = _operation({}).call(_case(options={"factor": 3.0}), "xla", False)
    np.testing.assert_array_equal(call(jnp.ones(2), jnp.ones(2)), [3.0, 3.0])


def _rows(*speeds):
    return {f"op/{i}/k": {"speedup": s, "error": e} for i, (s, e) in enumerate(speeds)}


@pytest.mark.parametrize(
    "rows, want",
    [
        ({}, "xla"),
        (_rows((1.2, 0.0), (1.1, 1e-3)), "k"),
        (_rows((2.0, 0.0), (0.9, 0.0)), "xla"),  # slower in one case
        (_rows((2.0, 0.0), (2.0, 0.5)), "xla"),  # wrong in one case
        ({"op/a/k": {"median": None, "spread": None, "status": "fails"}}, "xla"),
        (_rows((1.2, 0.0)) | {"op/0/other": {"speedup": 1.5, "error": 0.0}}, "other"),
        ({"another/a/k": {"speedup": 9.0, "error": 0.0}}, "xla"),
    ],
)
def test_the_default_is_what_wins_everywhere(rows, want):
    assert kernels.fastest("op", rows) == want


def test_arrays_of_one_value_are_varied_and_others_are_not():
    tree = (jnp.ones((4, 5)), jnp.arange(3.0), jnp.ones(3, bool), jnp.zeros(2, jnp.int32), None)
    ones, steps, mask, zeros, none = kernels._varied(tree)
    assert float(ones.std()) > 0.3 and none is None
    for kept, before in ((steps, tree[1]), (mask, tree[2]), (zeros, tree[3])):
        np.testing.assert_array_equal(kept, before)


def test_difference_is_relative_to_the_largest_value():
    near = kernels.difference((jnp.asarray([1.0, 4.5]),), (jnp.asarray([1.0, 5.0]),))
    assert near == pytest.approx(0.1)
    assert kernels.difference(jnp.zeros(2), jnp.zeros(2)) == 0.0
    with pytest.raises(ValueError):
        kernels.difference((jnp.ones(1),), (jnp.ones(1), jnp.ones(1)))


def test_on_a_cpu_xla_is_measured_and_the_others_are_lowered(monkeypatch):
    monkeypatch.setattr(kernels.floors, "measure_peaks", lambda config: PEAKS)
    found = kernels.run(rounds=1, operations=("banded_solve",), targets=("h100", "v5e"))
    small, real = "banded_solve/64x4/64", "banded_solve/64x4/1024"
    assert found["phases"][f"{small}/xla"]["median"] > 0
    assert found["phases"][f"{small}/backward/xla"]["ratio_to_floor"] > 0
    row = found["phases"][f"{real}/pallas"]
    assert row["median"] is None and row["status"].endswith("not measured")
    assert "h100: lowers" in row["status"] or "h100: compiles" in row["status"]
    assert f"{real}/xla" not in found["phases"]
    assert found["defaults"] == {"banded_solve": "xla"}
    assert found["notes"] == ["kernels for accelerators: not measured here"]


def test_a_chip_that_a_kernel_is_not_for():
    operation = kernels.OPERATIONS["quantised_matvec"]
    [case, *_] = operation.cases()
    status = kernels._status(operation.call(case, "triton", False), case.specs(), "v5e")
    assert status.startswith("none (quantised_matvec cannot run as asked (triton: Triton is for GPUs")
