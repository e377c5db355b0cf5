"""What the source of a vendored layer says: a fingerprint, and what numbers cannot show."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap


class _Normalise(ast.NodeTransformer):
    """Removes what does not change results: docstrings, assertions, annotations, cache clearing."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        node.decorator_list = []
        node.body = [
            s
            for s in node.body
            if not isinstance(s, ast.Assert)
            and not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            and not (isinstance(s, ast.Expr) and "empty_cache" in ast.dump(s))
        ] or [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return node
        return ast.Assign(targets=[node.target], value=node.value)


def _tree(function: object) -> ast.AST | None:
    if isinstance(function, property):
        function = function.fget
    try:
        source = textwrap.dedent(inspect.getsource(function))
        return _Normalise().visit(ast.parse(source).body[0])
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


def fingerprint(*functions: object) -> str | None:
    """A hash of the normalised source of the functions; None where a source cannot be read."""
    texts = []
    for function in functions:
        tree = _tree(function)
        if tree is None:
            return None
        # text, since the dump of a tree differs between Python versions
        texts.append(ast.unparse(ast.fix_missing_locations(tree)))
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


#: attributes of self that the forward of a plain layer reads
_PLAIN_ATTRIBUTES = {
    "base_activation",
    "base_weight",
    "spline_weight",
    "spline_scaler",
    "scaled_spline_weight",
    "enable_standalone_scale_spline",
    "b_splines",
    "grid",
    "grid_size",
    "spline_order",
    "in_features",
    "out_features",
}


def side_effects(
    function: object, plain_attributes: frozenset[str] | set[str] = _PLAIN_ATTRIBUTES
) -> str | None:
    """A sentence on anything in a forward that equal outputs would not reveal, or None.

    State that it writes, attributes of its own that it reads (a mode, a counter, a dropout) and
    output to the world would be lost if the kernels took its place.

    Args:
        plain_attributes: those of self that the forward of a plain layer reads.
    """
    tree = _tree(function)
    if tree is None:
        return None
    for node in ast.walk(tree):
        targets: list[ast.AST] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        for target in targets:
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                return f"its forward writes {ast.unparse(target)} (line {node.lineno})"
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            return f"its forward writes a global variable (line {node.lineno})"
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
            and node.attr not in plain_attributes
        ):
            return f"its forward uses self.{node.attr} (line {node.lineno})"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("print", "exec", "eval", "setattr", "open"):
                return f"its forward calls {node.func.id} (line {node.lineno})"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("append", "extend", "update", "add_", "mul_", "copy_", "detach"):
                return f"its forward calls .{node.func.attr}() (line {node.lineno})"
    return None
