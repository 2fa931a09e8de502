"""Meshes, and which mesh axes a logical axis is split over.

Modules and tables only name their logical axes; `AxisRules` says where these go. The resolver is
strict: an unknown name, a mesh axis used twice or a dimension that does not divide is an error that
names the parameter, never a silent replication. Rules are passed as values, so two rule sets can
serve one model in one process.
"""

import dataclasses
import math
from typing import Any, Mapping, Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alpamayo_jax.config import ConfigError

MESH_AXES = ("data", "fsdp", "tensor", "seq")

Axes = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class AxisRules:
    """Logical axis -> mesh axes it is split over; () keeps it whole.

    Attributes:
      layers: stacked layers.
      vocab: vocabulary; 155,697 divides by no power of two, so it stays whole.
      embed: width of the language model or expert, in parameters.
      heads: query heads x head size, in parameters.
      kv_heads: key-value heads x head size, in parameters.
      mlp: inner width of an MLP, in parameters.
      vision_embed: width of the vision tower, in parameters.
      vision_heads: heads x head size of the vision tower, in parameters.
      vision_mlp: inner widths of the vision tower, in parameters.
      batch: rows of a batch.
      samples: samples drawn per row.
      length: positions of a sequence.
      images: images of a row.
      act_embed: width of an activation.
      act_heads: heads of an activation.
      act_kv_heads: key-value heads of an activation or cache.
      act_mlp: inner MLP width of an activation.
      act_vocab: logits.
    """

    layers: Axes = ()
    vocab: Axes = ()
    embed: Axes = ("fsdp",)
    heads: Axes = ("tensor",)
    kv_heads: Axes = ("tensor",)
    mlp: Axes = ("tensor",)
    vision_embed: Axes = ("fsdp",)
    vision_heads: Axes = ("tensor",)
    vision_mlp: Axes = ("tensor",)
    batch: Axes = ("data", "fsdp")
    samples: Axes = ()
    length: Axes = ("seq",)
    images: Axes = ()
    act_embed: Axes = ()
    act_heads: Axes = ("tensor",)
    act_kv_heads: Axes = ("tensor",)
    act_mlp: Axes = ("tensor",)
    act_vocab: Axes = ()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            unknown = [axis for axis in getattr(self, field.name) if axis not in MESH_AXES]
            if unknown:
                raise ConfigError(
                    f"axis rule {field.name} names {unknown}; mesh axes are {', '.join(MESH_AXES)}"
                )


def make_mesh(
    data: int = 1,
    fsdp: int = -1,
    tensor: int = 1,
    seq: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh with the axes data, fsdp, tensor and seq; one size may be -1: whatever is left.

    Args:
      data: copies of the parameters; each sees a part of the batch.
      fsdp: parts of the parameters; each sees a part of the batch.
      tensor: parts of heads and MLPs.
      seq: parts of a sequence.
      devices: default all.

    Raises:
      ConfigError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = [data, fsdp, tensor, seq]
    fixed = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and fixed > 0 and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        asked = f"data={data}, fsdp={fsdp}, tensor={tensor}, seq={seq}"
        raise ConfigError(f"mesh {asked} does not fit {len(devices)} device(s)")
    # Auto: the default of newer versions is Explicit, under which constraints mean something else.
    kinds = (AxisType.Auto,) * len(MESH_AXES)
    return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=kinds, devices=devices)


def resolve(
    names: Sequence[str | None],
    shape: Sequence[int],
    mesh: Mesh,
    rules: AxisRules,
    what: str = "array",
) -> PartitionSpec:
    """The partition of one array.

    Args:
      names: logical axis of every dimension, None for one that is never split.
      shape: sizes.
      mesh: where.
      rules: logical axis -> mesh axes.
      what: the parameter, for messages.

    Raises:
      ConfigError: unknown name, mesh axis absent or used twice, a size that does not divide, or
        another number of names than dimensions.
    """
    if len(names) != len(shape):
        raise ConfigError(
            f"{what}: {len(names)} axis names {tuple(names)} for shape {tuple(shape)}"
        )
    known = {field.name for field in dataclasses.fields(rules)}
    used: dict[str, str] = {}
    spec: list[Any] = []
    for name, size in zip(names, shape, strict=True):
        if name is not None and name not in known:
            raise ConfigError(f"{what}: unknown logical axis {name!r}; known: {sorted(known)}")
        axes = () if name is None else getattr(rules, name)
        for axis in axes:
            if axis not in mesh.shape:
                raise ConfigError(f"{what}: the mesh has no axis {axis!r}, only {mesh.axis_names}")
            if axis in used:
                raise ConfigError(
                    f"{what}: mesh axis {axis!r} would split both {used[axis]!r} and {name!r}"
                )
            used[axis] = name
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if size % parts:
            raise ConfigError(
                f"{what}: dimension {name!r} of {size} does not divide over {parts} devices "
                f"({', '.join(axes)}); change the mesh or the axis rules"
            )
        spec.append(axes[0] if len(axes) == 1 else axes or None)
    return PartitionSpec(*spec)


def param_shardings(axes: Mapping, shapes: Mapping, mesh: Mesh, rules: AxisRules) -> dict:
    """A `NamedSharding` for every parameter.

    Args:
      axes: tree of tuples of logical axis names, see `convert.logical_axes`.
      shapes: tree like it of arrays or `jax.ShapeDtypeStruct`, see `convert.param_shapes`.
      mesh: where.
      rules: logical axis -> mesh axes.

    Raises:
      ConfigError: as `resolve`, with the parameter's path; or the trees differ.
    """

    def walk(names: Any, leaf: Any, path: str) -> Any:
        if not isinstance(names, Mapping):
            return NamedSharding(mesh, resolve(names, leaf.shape, mesh, rules, path))
        if not isinstance(leaf, Mapping) or names.keys() != leaf.keys():
            raise ConfigError(f"axes and shapes differ below {path or 'the root'}")
        return {k: walk(v, leaf[k], f"{path}/{k}".lstrip("/")) for k, v in names.items()}

    return walk(axes, shapes, "")


# Logical axes of the arrays of `types.TrainBatch`, `types.ModelInputs` and `rl.types`, by field.
BATCH_AXES: dict[str, tuple[str | None, ...]] = {
    "input_ids": ("batch", "length"),
    "attention_mask": ("batch", "length"),
    "position_ids": (None, "batch", "length"),
    "rope_delta": ("batch",),
    "image_index": ("batch", "length"),
    "pixel_values": ("batch", "images", None, None),
    "image_grid": ("batch", "images", None),
    "camera_index": ("batch", "images"),
    "frame_time": ("batch", "images"),
    "ego_history_xyz": ("batch", None, None),
    "ego_history_rot": ("batch", None, None, None),
    "step_images": ("batch", None, None),
    "lenses": ("batch", "images", None),
    "ego_from_camera": ("batch", "images", None, None),
    "prefix": ("batch", "length"),
    "labels_mask": ("batch", "length"),
    "ego_future_xyz": ("batch", None, None),
    "ego_future_rot": ("batch", None, None, None),
    "history_xyz": ("batch", None, None, None),
    "history_rot": ("batch", None, None, None, None),
    "future_xyz": ("batch", None, None, None),
    "future_rot": ("batch", None, None, None, None),
    "token_ids": ("batch", "samples", None),
    "mask": ("batch", "samples", None),
    "old_logprobs": ("batch", "samples", None),
    "ref_logprobs": ("batch", "samples", None),
    "advantages": ("batch", "samples"),
    "counts": ("batch", "samples"),
    "states": ("batch", "samples", None, None, None),
    "logprobs": ("batch", "samples", None),
}


def field_axes(path: Sequence[Any]) -> tuple[str | None, ...]:
    """Logical axes of the array at a key path of a batch: those of the path's last name.

    Raises:
      ConfigError: the name is not in `BATCH_AXES`.
    """
    name = jax.tree_util.keystr(tuple(path)[-1:], simple=True)
    if name not in BATCH_AXES:
        raise ConfigError(f"batch array {name!r} has no known axes; add it to BATCH_AXES")
    return BATCH_AXES[name]


def batch_shardings(batch: Any, mesh: Mesh, rules: AxisRules) -> Any:
    """A `NamedSharding` for every array of a batch.

    Args:
      batch: arrays or shapes of a `TrainBatch` or `ModelInputs`, global sizes.
      mesh: where.
      rules: logical axis -> mesh axes.

    Raises:
      ConfigError: as `resolve`, with the array's name.
    """

    def place(path, leaf):
        name = jax.tree_util.keystr(tuple(path), simple=True, separator="/")
        return NamedSharding(mesh, resolve(field_axes(path), leaf.shape, mesh, rules, name))

    return jax.tree_util.tree_map_with_path(place, batch)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def constrain(
    x: jax.Array,
    names: Sequence[str | None],
    mesh: Mesh | None,
    rules: AxisRules,
    what: str = "activation",
) -> jax.Array:
    """`x` with its partition fixed inside a jitted function; without a mesh, `x` itself.

    Raises:
      ConfigError: as `resolve`.
    """
    if mesh is None:
        return x
    spec = resolve(names, x.shape, mesh, rules, what)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the activations of one program lie; hashable, a static part of a model.

    Attributes:
      mesh: devices.
      rules: logical axis -> mesh axes.
    """

    mesh: Mesh
    rules: AxisRules = AxisRules()
