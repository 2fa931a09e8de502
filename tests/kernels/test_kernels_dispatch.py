"""Which implementation runs, and what is said where none can."""

import contextlib

import jax
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.kernels import dispatch
from alpamayo_jax.kernels.dispatch import Unsupported, run
from alpamayo_jax.kernels.lowering import abstract_device


def _xla(x, scale=1):
    return ("xla", x * scale)


def _kernel(x, scale=1, interpret=False):
    if x < 0:
        raise Unsupported(f"x {x} is negative")
    return ("pallas", x * scale, interpret)


CANDIDATES = {"pallas": _kernel, "xla": _xla}


def test_a_name_runs_that_implementation():
    assert run("op", "xla", CANDIDATES, 2, scale=3) == ("xla", 6)
    assert run("op", "pallas", CANDIDATES, 2, scale=3) == ("pallas", 6, False)
    assert run("op", "pallas", CANDIDATES, 2, interpret=True) == ("pallas", 2, True)


def test_xla_never_hears_of_the_interpreter():
    assert run("op", "xla", CANDIDATES, 2, interpret=True) == ("xla", 2)


def test_the_first_of_several_that_can():
    assert run("op", ("pallas", "xla"), CANDIDATES, 1)[0] == "pallas"
    assert run("op", ("pallas", "xla"), CANDIDATES, -1) == ("xla", -1)
    assert run("op", ("triton", "pallas", "xla"), CANDIDATES, 1)[0] == "pallas"


@pytest.mark.parametrize("chip", [None, "h100", "b200", "v5e"])
def test_auto_is_xla_until_a_kernel_was_measured_to_be_faster(chip):
    with contextlib.nullcontext() if chip is None else abstract_device(chip):
        assert run("op", "auto", CANDIDATES, 1) == ("xla", 1)


def test_auto_follows_the_operations_own_order_and_falls_back():
    auto = {"gpu": ("pallas", "xla"), "cpu": ("xla",)}
    with abstract_device("h100"):
        assert run("op", "auto", CANDIDATES, 1, auto=auto)[0] == "pallas"
        assert run("op", "auto", CANDIDATES, -1, auto=auto) == ("xla", -1)
    assert run("op", "auto", CANDIDATES, 1, auto=auto)[0] == "xla"
    with abstract_device("v5e"):  # a platform the operation says nothing of
        assert run("op", "auto", CANDIDATES, 1, auto=auto)[0] == "xla"


def test_what_cannot_run_says_why():
    with pytest.raises(Unsupported, match=r"op .*pallas: x -1 is negative.*'xla' always can"):
        run("op", "pallas", CANDIDATES, -1)
    with pytest.raises(Unsupported, match=r"triton: this operation has only pallas, xla"):
        run("op", "triton", CANDIDATES, 1)


@pytest.mark.parametrize("name", ["Pallas", "", "cudnn"])
def test_an_unknown_name(name):
    with pytest.raises(ConfigError, match="known: auto, xla, pallas, triton"):
        run("op", name, CANDIDATES, 1)
    with pytest.raises(ConfigError, match="of op is unknown"):
        run("op", ("xla", name), CANDIDATES, 1)


def test_other_errors_are_not_swallowed():
    def broken(x, interpret):
        raise ValueError("a real mistake")

    with pytest.raises(ValueError, match="a real mistake"):
        run("op", ("pallas", "xla"), {"pallas": broken, "xla": _xla}, 1)


def test_the_platform_is_that_of_the_abstract_mesh():
    assert dispatch.current_platform() == jax.default_backend() == "cpu"
    for chip, platform in (("h100", "gpu"), ("rtx_pro_6000", "gpu"), ("v6e", "tpu")):
        with abstract_device(chip):
            assert dispatch.current_platform() == platform
    assert dispatch.current_platform() == "cpu"


def test_pallas_has_a_body_per_platform():
    both = dispatch.pallas(
        gpu=lambda x, interpret: ("gpu", x, interpret),
        tpu=lambda x, interpret: ("tpu", x, interpret),
    )
    with abstract_device("h100"):
        assert both(1) == ("gpu", 1, False)
    with abstract_device("v5e"):
        assert both(1) == ("tpu", 1, False)
        assert both(1, interpret=True) == ("tpu", 1, True)
    assert both(1, interpret=True) == ("gpu", 1, True)
    with pytest.raises(Unsupported, match="no Pallas kernel of it for cpu; interpret=True"):
        both(1)
    only_tpu = dispatch.pallas(tpu=lambda x, interpret: ("tpu", x, interpret))
    assert only_tpu(1, interpret=True) == ("tpu", 1, True)
    with abstract_device("h100"), pytest.raises(Unsupported, match="for gpu"):
        only_tpu(1)
