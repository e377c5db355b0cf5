"""What the source of a vendored layer says: a fingerprint, and what numbers cannot show."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

from torch import nn

from kan_fast.interop.adapters.guard import FLAG

_SHAPES = frozenset("dim ndim size shape".split())
_SIZES = frozenset(
    "in_features out_features grid_size spline_order in_dim out_dim width_in".split()
)


def _asks_sizes(condition: ast.AST, settings: frozenset) -> bool:
    """Whether a condition is about shapes and settings of the layer alone, not about numbers."""
    attributes = (n.attr for n in ast.walk(condition) if isinstance(n, ast.Attribute))
    return all(name in _SHAPES or name in settings for name in attributes)


def _counts_rows(condition: ast.AST) -> bool:
    """Whether a condition asks how large the batch is."""
    text = ast.unparse(condition)
    return any(rows in text for rows in (".size(0)", ".shape[0]", "len(", ".size()[0]"))


class _Normalise(ast.NodeTransformer):
    """Removes what does not change results: docstrings, assertions about shapes, annotations, cache
    clearing."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        node.body = [
            s
            for s in node.body
            if not (isinstance(s, ast.Assert) and _asks_sizes(s.test, _SIZES))
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


def _plain_function(function: object) -> FunctionType | None:
    """The function itself, below a property and our own dispatch; None where something is around
    it or in it that its source does not show."""
    if isinstance(function, property):
        function = function.fget
    function = getattr(function, FLAG, function)
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        return None
    # a method that calls super() closes over its class
    return function if set(function.__code__.co_freevars) <= {"__class__"} else None


@functools.lru_cache(maxsize=1024)
def _tree(code: CodeType) -> ast.AST | None:
    try:
        # of the code, since a function may say that it is another
        source = textwrap.dedent(inspect.getsource(code))
        return _Normalise().visit(ast.parse(source).body[0])
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


def global_of(function: object, name: str) -> object:
    """What a name means in a function, where it means a global; else None."""
    plain = _plain_function(function)
    return None if plain is None else plain.__globals__.get(name)


def _names(code: CodeType) -> set[str]:
    """All names that code uses, that of its comprehensions and lambdas included."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)


def _globals_used(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def fingerprint(*functions: object) -> str | None:
    """A hash of the normalised source of the functions and of which modules their names mean; None
    where a source cannot be read or does not say all."""
    texts = []
    for function in functions:
        plain = _plain_function(function)
        tree = None if plain is None else _tree(plain.__code__)
        if tree is None:
            return None
        # text, since the dump of a tree differs between Python versions
        texts.append(ast.unparse(ast.fix_missing_locations(tree)))
        texts += [
            f"{name} is {found.__name__}"
            for name, found in _globals_used(plain)
            if isinstance(found, ModuleType)
        ]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


_WRITING_CALLS = frozenset(
    "append extend update insert pop clear setdefault data_ptr detach register_hook "
    "register_buffer register_parameter retain_grad item tolist numpy".split()
)
_WORLDLY_CALLS = frozenset("print exec eval setattr delattr open globals input".split())
#: they treat some numbers in a way that a test may not meet
_OF_RANGES = frozenset("nan_to_num isnan isinf isfinite clamp clamp_min clamp_max clip".split())
_GRADIENT_MODES = frozenset("no_grad enable_grad inference_mode set_grad_enabled".split())


def side_effects(cls: type, methods: tuple[str, ...], plain_attributes: frozenset) -> str | None:
    """A sentence on anything in what a kernel would replace that equal numbers would not reveal.

    State that it writes, attributes of its own that it reads (a mode, a counter, a dropout), output
    to the world and parts without gradients would be lost. Looked at are all definitions of the
    methods along the inheritance, and the functions outside of torch that they call.

    Args:
        methods: names of the methods and properties that are replaced.
        plain_attributes: those of self that the methods of a plain layer read.
    """
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        for name in methods:
            if name in base.__dict__:
                reason = _in_function(base.__dict__[name], name, plain_attributes, set())
                if reason is not None:
                    return reason
    return None


def _in_function(function: object, name: str, plain_attributes: frozenset, seen: set) -> str | None:
    plain = _plain_function(function)
    if plain is None:
        return f"its {name} is wrapped by something"
    if plain.__code__ in seen:
        return None
    seen.add(plain.__code__)
    tree = _tree(plain.__code__)
    if tree is None:
        return f"the source of its {name} cannot be read"
    if getattr(tree, "decorator_list", None) and not isinstance(function, property):
        return f"its {name} is decorated"
    for node in ast.walk(tree):
        reason = _in_node(node, plain_attributes)
        if reason is not None:
            return f"its {name} {reason} (line {node.lineno})"
    for used, found in _globals_used(plain):
        reason = _in_global(used, found, seen)
        if reason is not None:
            return reason
    return None


def _in_global(name: str, found: object, seen: set) -> str | None:
    if isinstance(found, ModuleType):
        known = found.__name__.split(".")[0] in ("torch", "math")
        return None if known else f"its code uses the module {found.__name__}"
    if isinstance(found, (type, int, float, str, type(None))):
        return None
    # torch's own are its operators; their names say where they are
    if (getattr(found, "__module__", None) or "").split(".")[0] in ("torch", "math", "typing"):
        return None
    if isinstance(found, FunctionType):
        return _in_function(found, name, frozenset(), seen)
    return f"its code uses the global variable {name}"


def _in_node(node: ast.AST, plain_attributes: frozenset) -> str | None:
    targets: list[ast.AST] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        targets = [node.target]
    for target in targets:
        if isinstance(target, (ast.Attribute, ast.Subscript)):
            return f"writes {ast.unparse(target)}"
    if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
        rows = not isinstance(node, ast.Assert) and _counts_rows(node.test)
        if rows or not _asks_sizes(node.test, plain_attributes | _SIZES):
            return f"asks whether {ast.unparse(node.test)}"
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return "writes a global variable"
    if isinstance(node, ast.Name) and node.id in _WORLDLY_CALLS:
        return f"calls {node.id}"
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            if node.attr not in plain_attributes:
                return f"uses self.{node.attr}"
        elif node.attr in _OF_RANGES:
            return f"uses .{node.attr}, which treats some numbers in its own way"
        elif node.attr in _WRITING_CALLS or node.attr in _GRADIENT_MODES or node.attr == "data":
            return f"uses .{node.attr}"
        elif node.attr.endswith("_") and not node.attr.startswith("_"):
            return f"uses .{node.attr}"
    return None
