"""Passes over a converted ONNX graph: fewer nodes, weights as constants, names to follow.

The converter sees weights as inputs. Until `weights_to_initializers` they are known by name only, so
that no pass ever touches their bytes. Graphs are changed in place; bodies of loops see the values of
the graph around them.
"""

import collections
from typing import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_FOLDED = 4096  # elements; larger results of constants stay computed
_CONTROL = ("Loop", "If", "Scan")


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of bodies included."""
    for node in graph.node:
        yield node
        for body in subgraphs(node):
            yield from all_nodes(body)


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Operator -> how often it stands in the model, in alphabetical order."""
    counts = collections.Counter(node.op_type for node in all_nodes(model.graph))
    return dict(sorted(counts.items()))


def unique_values(graph: onnx.GraphProto) -> None:
    """Gives every value of every body a name that no other graph uses."""
    seen: set[str] = set()

    def visit(graph: onnx.GraphProto, outer: Mapping[str, str], prefix: str) -> None:
        names = dict(outer)
        own = [value.name for value in (*graph.input, *graph.initializer)]
        own += [name for node in graph.node for name in node.output if name]
        for name in own:
            new = name if not prefix and name not in seen else f"{prefix}{name}"
            while new in seen and names.get(name) != new:
                new += "_"
            seen.add(new)
            names[name] = new
        _rename(graph, names)
        for index, node in enumerate(graph.node):
            for body in subgraphs(node):
                visit(body, names, f"{prefix}{node.op_type.lower()}{index}_")

    visit(graph, {}, "")


def hoist_invariants(graph: onnx.GraphProto) -> None:
    """Takes out of loops what they only hand on: bodies read it from the graph around them.

    Loops of JAX carry everything that their body closes over, weights too; a runtime can only treat
    these as constants when they are not part of the loop's state.
    """
    for node in graph.node:
        for body in subgraphs(node):
            hoist_invariants(body)
    for node in graph.node:
        if node.op_type != "Loop":
            continue
        body = next(subgraphs(node))
        source = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
        carried = len(node.input) - 2
        kept, alias, gone = [], {}, {}
        for i in range(carried):
            inside, result = body.input[2 + i].name, body.output[1 + i].name
            while result in source and result != inside:
                result = source[result]
            if result == inside:
                alias[inside] = node.input[2 + i]
                gone[node.output[i]] = node.input[2 + i]
            else:
                kept.append(i)
        if not alias:
            continue
        inputs, outputs = list(node.input), list(node.output)
        scans = outputs[carried:]
        _replace(node.input, [*inputs[:2], *(inputs[2 + i] for i in kept)])
        _replace(node.output, [*(outputs[i] for i in kept), *scans])
        first, last = list(body.input), list(body.output)
        _replace_messages(body.input, [*first[:2], *(first[2 + i] for i in kept)])
        _replace_messages(
            body.output, [last[0], *(last[1 + i] for i in kept), *last[1 + carried :]]
        )
        _rename(body, alias, recurse=True)
        _rename(graph, gone, recurse=True)


def hoist_computations(graph: onnx.GraphProto) -> None:
    """Moves nodes of loop bodies that depend on nothing of the loop in front of the loop."""
    nodes = []
    for node in graph.node:
        for body in subgraphs(node):
            hoist_computations(body)
            if node.op_type == "Loop":
                nodes += _take_invariant(graph, body)
        nodes.append(node)
    _replace_messages(graph.node, nodes)


def _take_invariant(graph: onnx.GraphProto, body: onnx.GraphProto) -> list[onnx.NodeProto]:
    constants = {tensor.name: tensor for tensor in body.initializer}
    outputs = {value.name for value in body.output}
    local = {value.name for value in body.input}
    moved, kept = [], []
    for node in body.node:
        fixed = node.op_type not in (*_CONTROL, "Identity") and not outputs & set(node.output)
        if fixed and not local & set(node.input):
            moved.append(node)
        else:
            kept.append(node)
            local.update(node.output)
    read = {name for node in moved for name in node.input if name in constants}
    graph.initializer.extend(constants[name] for name in sorted(read))
    _replace_messages(body.initializer, [t for name, t in constants.items() if name not in read])
    _replace_messages(body.node, kept)
    return moved


def drop_identities(graph: onnx.GraphProto) -> None:
    """Removes `Identity` nodes, except those that make an output of what is no node's own result."""
    for node in graph.node:
        for body in subgraphs(node):
            drop_identities(body)
    produced = {name for n in graph.node if n.op_type != "Identity" for name in n.output}
    outputs = {value.name for value in graph.output}
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type != "Identity" or node.output[0] in outputs:
            nodes.append(node)
        else:
            alias[node.output[0]] = node.input[0]
    for name in alias:
        while alias[name] in alias:
            alias[name] = alias[alias[name]]
    _replace_messages(graph.node, nodes)
    _rename(graph, alias, recurse=True)
    # An output's own Identity goes too where its value is a node's and has no other name to keep.
    for node in list(graph.node):
        if node.op_type != "Identity" or node.input[0] not in produced - outputs:
            continue
        name, target = node.input[0], node.output[0]
        graph.node.remove(node)
        _rename(graph, {name: target}, recurse=True)
        for other in graph.node:
            _replace(other.output, [target if o == name else o for o in other.output])
        produced = produced - {name} | {target}


def fold_constants(graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto] = {}) -> None:
    """Computes small nodes that read constants only (shapes, ranges, masks) once and for all."""
    known = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        for body in subgraphs(node):
            fold_constants(body, known)
        inputs = [name for name in node.input if name]
        foldable = node.op_type not in _CONTROL and not outputs & set(node.output)
        if not foldable or not all(name in known for name in inputs):
            kept.append(node)
            continue
        results = _evaluate(node, [known[name] for name in inputs])
        if results is None or any(result.size > _FOLDED for result in results):
            kept.append(node)
            continue
        for name, result in zip(node.output, results):
            known[name] = numpy_helper.from_array(np.asarray(result), name)
            graph.initializer.append(known[name])
    _replace_messages(graph.node, kept)


def _evaluate(
    node: onnx.NodeProto, tensors: Iterable[onnx.TensorProto]
) -> list[np.ndarray] | None:
    tensors = list(tensors)
    if sum(int(np.prod(t.dims)) for t in tensors) > _FOLDED:
        return None
    unknown = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "constant", [], unknown, initializer=tensors)
    opset = helper.make_opsetid("", onnx.defs.onnx_opset_version())
    model = helper.make_model(graph, opset_imports=[opset])
    try:
        return ReferenceEvaluator(model).run(None, {})
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError):
        return None  # the runtime will compute it


def plain_matmuls(graph: onnx.GraphProto) -> None:
    """Writes an `Einsum` of activations [..., in] and a kernel [in, out] as a `MatMul`.

    Runtimes fuse and quantise matrix products; an equation they only execute.
    """
    for node in all_nodes(graph):
        if node.op_type != "Einsum" or len(node.input) != 2:
            continue
        equation = helper.get_node_attr_value(node, "equation").decode().replace(" ", "")
        operands, result = equation.split("->")
        x, kernel = operands.split(",")
        if len(kernel) == 2 and x[-1] == kernel[0] and result == x[:-1] + kernel[1]:
            node.op_type = "MatMul"
            del node.attribute[:]


def prune(graph: onnx.GraphProto) -> None:
    """Removes nodes and constants that nothing reads."""
    while True:
        read = _read(graph) | {value.name for value in graph.output}
        kept = [node for node in graph.node if set(node.output) & read]
        if len(kept) == len(graph.node):
            break
        _replace_messages(graph.node, kept)
    for node in graph.node:
        for body in subgraphs(node):
            prune(body)
    read = _read(graph) | {value.name for value in graph.output}
    _replace_messages(graph.initializer, [t for t in graph.initializer if t.name in read])
    del graph.value_info[:]


def name_ports(graph: onnx.GraphProto, inputs: list[str], outputs: list[str]) -> None:
    """Names the inputs and the outputs of a graph, in order."""
    produced = {name for node in graph.node for name in node.output}
    names: dict[str, str] = {}
    for i, (value, name) in enumerate(zip(graph.output, outputs, strict=True)):
        if value.name not in produced or value.name in names:  # an input handed on, or one twice
            graph.node.append(helper.make_node("Identity", [value.name], [f"output_{i}"]))
            value.name = f"output_{i}"
        names[value.name] = name
    names |= {v.name: name for v, name in zip(graph.input, inputs, strict=True)}
    # What already has one of these names makes room.
    mentioned = {name for node in all_nodes(graph) for name in (*node.input, *node.output)}
    clash = (mentioned & set(names.values())) - set(names)
    names |= {name: f"{name}__inner" for name in clash}
    for node in graph.node:
        _replace(node.output, [names.get(name, name) for name in node.output])
    for value in (*graph.input, *graph.initializer):
        value.name = names.get(value.name, value.name)
    _rename(graph, names, recurse=True)


def name_nodes(graph: onnx.GraphProto, weights: Iterable[str], prefix: str = "") -> None:
    """Names nodes after the module whose weights they read, as `.../layers.3/mlp/up_proj/MatMul`.

    A node that reads none is named after the module that holds both the weight read before it and
    the one read after it. Nodes in the body of a loop begin with the loop's name. The values between
    nodes get the names of the nodes that make them.
    """
    counts: collections.Counter[str] = collections.Counter()
    taken = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    scopes = {weight: module_of(weight) for weight in weights}

    def visit(graph: onnx.GraphProto, prefix: str, outputs: set[str]) -> None:
        names = {}
        constants = {tensor.name for tensor in graph.initializer}
        for node, scope in zip(graph.node, _scopes(graph, scopes, constants)):
            base = f"{prefix}{scope}/{node.op_type}".lstrip("/")
            counts[base] += 1
            node.name = base if counts[base] == 1 else f"{base}_{counts[base]}"
            for i, output in enumerate(node.output):
                if output and output not in outputs:
                    new = node.name if len(node.output) == 1 else f"{node.name}.{i}"
                    while new in taken:
                        new += "_"
                    names[output] = new
                    taken.add(new)
        for node in graph.node:
            _replace(node.output, [names.get(name, name) for name in node.output])
        _rename(graph, names, recurse=True)
        for node in graph.node:
            for body in subgraphs(node):
                inner = {v.name for v in (*body.input, *body.output)}
                visit(body, f"{node.name}/", inner)

    visit(graph, prefix, {value.name for value in graph.output})


def _scopes(
    graph: onnx.GraphProto, scopes: Mapping[str, str], constants: set[str]
) -> list[str]:
    """The module of every node of one graph."""
    derived, found = dict(scopes), []
    for node in graph.node:
        variable = [name for name in node.input if name and name not in constants]
        own = [derived[name] for name in variable if name in derived]
        if own and len(own) == len(variable):
            derived.update({name: own[0] for name in node.output})  # still only a weight
        found.append(own[-1] if own else None)
    after: list[str | None] = [None] * len(found)
    following = None
    for i in reversed(range(len(found))):
        after[i] = following
        following = found[i] if found[i] is not None else following
    filled, before = [], None
    for own, later in zip(found, after):
        if own is not None:
            before = own
        filled.append(own if own is not None else _common(before or "", later or ""))
    return filled


def module_of(weight: str) -> str:
    """`a.layers.3.b.kernel` to `a/layers.3/b`."""
    parts: list[str] = []
    for part in weight.split(".")[:-1]:
        if part.isdecimal() and parts:
            parts[-1] += f".{part}"
        else:
            parts.append(part)
    return "/".join(parts)


def _common(first: str, second: str) -> str:
    same = []
    for a, b in zip(first.split("/"), second.split("/")):
        if a != b:
            break
        same.append(a)
    return "/".join(same)


def _read(graph: onnx.GraphProto) -> set[str]:
    """Names that the nodes of a graph and of its bodies read."""
    names = set()
    for node in graph.node:
        names.update(node.input)
        for body in subgraphs(node):
            names |= _read(body) | {value.name for value in body.output}
    return names


def _rename(graph: onnx.GraphProto, names: Mapping[str, str], recurse: bool = False) -> None:
    """Renames what is read (with `recurse`), or every mention of a value in this graph."""
    for node in graph.node:
        _replace(node.input, [names.get(name, name) for name in node.input])
        if recurse:
            for body in subgraphs(node):
                _rename(body, names, recurse=True)
        else:
            _replace(node.output, [names.get(name, name) for name in node.output])
    if not recurse:
        for value in (*graph.input, *graph.initializer):
            value.name = names.get(value.name, value.name)
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _replace(field, values: list[str]) -> None:
    del field[:]
    field.extend(values)


def _replace_messages(field, values: list) -> None:
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)
