"""Which implementation of an operation runs.

Every operation has "xla", its reference, which runs everywhere and says what the others must compute.
"pallas" is a kernel for this platform, "triton" one in Triton itself. One that cannot do what it is
asked for (a platform, a shape, a type) raises `Unsupported` while it is traced.
"""

from typing import Any, Callable, Mapping, Sequence

import jax
from jax.sharding import get_abstract_mesh

from alpamayo_jax.config import IMPLEMENTATIONS, ConfigError

# "auto" takes the first of these that supports the call. A kernel comes before "xla" only where it
# was measured to be faster on that platform at the shapes of the real model; none has been yet.
AUTO: Mapping[str, Sequence[str]] = {"cpu": ("xla",), "gpu": ("xla",), "tpu": ("xla",)}


class Unsupported(Exception):
    """An implementation cannot do this call; another one may."""


def current_platform() -> str:
    """"cpu", "gpu" or "tpu": what the code being traced is for.

    That is the device of the abstract mesh in use (see `lowering`), else JAX's default.
    """
    device = getattr(get_abstract_mesh(), "abstract_device", None)
    platform = jax.default_backend() if device is None else device.platform
    return "gpu" if platform in ("cuda", "rocm") else platform


def pallas(
    *, gpu: Callable[..., Any] | None = None, tpu: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """One candidate of a kernel for GPUs and one for TPUs, each called with `interpret`.

    With `interpret=True` the body for this platform (on a CPU: the one for GPUs) runs as plain XLA,
    slowly, wherever the process is.
    """

    def candidate(*args, interpret: bool = False, **kwargs):
        platform = current_platform()
        if platform == "cpu" and interpret:
            body = tpu if gpu is None else gpu
        else:
            body = {"gpu": gpu, "tpu": tpu}.get(platform)
        if body is None:
            raise Unsupported(
                f"there is no Pallas kernel of it for {platform}"
                + ("; interpret=True runs one as plain XLA" if platform == "cpu" else "")
            )
        return body(*args, interpret=interpret, **kwargs)

    return candidate


def run(
    name: str,
    implementation: str | Sequence[str],
    candidates: Mapping[str, Callable[..., Any]],
    *args: Any,
    interpret: bool = False,
    auto: Mapping[str, Sequence[str]] = AUTO,
    **kwargs: Any,
) -> Any:
    """Calls one of an operation's implementations.

    Args:
      name: of the operation, for messages.
      implementation: one of `config.IMPLEMENTATIONS`, or several: the first that supports the call.
      candidates: "xla" and others, all with one signature; those other than "xla" also take
        `interpret`.
      *args, **kwargs: of the operation.
      interpret: run a kernel's body as plain XLA, for tests.
      auto: platform -> names that "auto" stands for.

    Raises:
      ConfigError: a name that is not an implementation.
      Unsupported: none of the named implementations can do it; the message says why.
    """
    names = (implementation,) if isinstance(implementation, str) else tuple(implementation)
    for wanted in names:
        if wanted not in IMPLEMENTATIONS:
            raise ConfigError(
                f"implementation {wanted!r} of {name} is unknown; "
                f"known: {', '.join(IMPLEMENTATIONS)}"
            )
    if "auto" in names:
        names = tuple(auto.get(current_platform(), ("xla",)))
    reasons = []
    for wanted in names:
        if wanted not in candidates:
            reasons.append(f"{wanted}: this operation has only {', '.join(candidates)}")
            continue
        extra = {} if wanted == "xla" else {"interpret": interpret}
        try:
            return candidates[wanted](*args, **extra, **kwargs)
        except Unsupported as error:
            reasons.append(f"{wanted}: {error}")
    raise Unsupported(f"{name} cannot run as asked ({'; '.join(reasons)}); 'xla' always can")
