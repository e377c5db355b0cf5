"""Edits that users make to layers between calls, drawn at random, as lines of Python.

A line is run once with `m` as the plain twin and once with `m` as the accelerated one. It holds
its own seeds, so that both get the same numbers, and prints as a reproduction.
"""

from __future__ import annotations

import copy
import io
import pickle
import random
import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune


def rand(seed: int, like: Tensor, scale: float = 1.0) -> Tensor:
    """Numbers of the shape and dtype of a tensor, the same for the same seed."""
    numbers = torch.randn(
        like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (scale * numbers).to(like.dtype)


def times(value: Any, factor: float) -> Any:
    """Tensors of floating-point numbers, also in tuples, times a number."""
    if isinstance(value, tuple):
        return tuple(times(v, factor) for v in value)
    return value * factor if isinstance(value, Tensor) and value.is_floating_point() else value


def doubles_output(module: nn.Module, args: tuple, output: Any) -> Any:
    return times(output, 2.0)


def shrinks_input(module: nn.Module, args: tuple) -> tuple:
    return times(args, 0.8)


def only_looks(module: nn.Module, args: tuple, output: Any = None) -> None:
    return None


def triples_gradient(module: nn.Module, grad_input: tuple, grad_output: tuple) -> tuple:
    return times(grad_input, 3.0)


def halves_gradient(module: nn.Module, grad_output: tuple) -> tuple:
    return times(grad_output, 0.5)


class Lora(nn.Module):
    """Has the tensors of a linear layer and computes more."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(rand(1, base.weight[:2]))
        self.up = nn.Parameter(rand(2, base.weight[:, :2], 0.1))

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: getattr(self.base, "bias", None))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


class Wrapped(nn.Module):
    """Has the attributes of a module and twice its result."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return times(self.base(*args, **kwargs), 2.0)


class Doubled(nn.Module):
    """A parametrisation."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def subclass(m: nn.Module, **members: Any) -> None:
    """Makes a module an instance of a class of its own."""
    m.__class__ = type(f"Own{type(m).__name__}", (type(m),), members)


def gated_forward(m: nn.Module) -> None:
    own = type(m).forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return times(own(self, *args, **kwargs), self.gate)

    subclass(m, forward=forward)
    m.gate = nn.Parameter(rand(3, next(m.parameters()).detach().flatten()[0]))


def gated_weight(m: nn.Module) -> None:
    own = type(m).scaled_spline_weight
    subclass(m, scaled_spline_weight=property(lambda self: own.fget(self) * self.gate))
    m.gate = nn.Parameter(rand(3, m.base_weight[0, 0]))


def detached(m: nn.Module, name: str) -> None:
    """A subclass with a method whose result has no gradient."""
    own = getattr(type(m), name)
    subclass(m, **{name: torch.no_grad()(lambda self, *a, **k: own(self, *a, **k))})


def patch(m: nn.Module, name: str) -> None:
    """A method of this instance that doubles the result of its class's."""
    own = getattr(type(m), name)
    method = types.MethodType(lambda self, *a, **k: times(own(self, *a, **k), 2.0), m)
    setattr(m, name, method)


def patch_class(m: nn.Module, name: str) -> None:
    """A method of the instance's own class, exchanged after the class was made."""
    if "forward" not in vars(type(m)) or not type(m).__name__.startswith("Own"):
        subclass(m)
    own = getattr(type(m), name)
    setattr(type(m), name, lambda self, *a, **k: times(own(self, *a, **k), 0.5))


def replace(m: nn.Module, path: str, make: Any) -> None:
    """Puts another module in the place of a submodule, made of it."""
    parent, _, name = path.rpartition(".")
    owner = m.get_submodule(parent)
    setattr(owner, name, make(getattr(owner, name))) if not name.isdigit() else (
        owner.__setitem__(int(name), make(owner[int(name)]))
    )


def saved_and_loaded(m: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(m, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def perturbed(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A state dictionary with other parameters; grids and centres as they were."""
    return {
        n: t + rand(seed, t, 0.1) if t.is_floating_point() and "grid" not in n else t.clone()
        for n, t in state.items()
    }


#: what a line may name
NAMES = {
    **{f.__name__: f for f in (
        rand, times, doubles_output, shrinks_input, only_looks, triples_gradient, halves_gradient,
        Lora, Wrapped, Doubled, subclass, gated_forward, gated_weight, detached, patch, patch_class,
        replace, saved_and_loaded, perturbed,
    )},
    "torch": torch, "nn": nn, "copy": copy, "pickle": pickle, "prune": prune,
    "parametrize": parametrize, "parametrizations": parametrizations,
}  # fmt: skip

HOOKS = (
    "register_forward_hook(doubles_output)", "register_forward_hook(only_looks)",
    "register_forward_pre_hook(shrinks_input)", "register_forward_pre_hook(only_looks)",
    "register_full_backward_hook(triples_gradient)",
    "register_full_backward_pre_hook(halves_gradient)",
)  # fmt: skip
MOVES = ("m.double()",) * 2 + ("m.float()",) * 2 + ("m.half()", "m.bfloat16()")
COPIES = (
    "m = copy.deepcopy(m)", "m = pickle.loads(pickle.dumps(m))", "m = saved_and_loaded(m)",
    "m.load_state_dict(copy.deepcopy(m.state_dict()))",
    "m.load_state_dict(perturbed(m.state_dict(), {seed}))",
    "m.load_state_dict(perturbed(m.state_dict(), {seed}), assign=True)",
)  # fmt: skip
#: in place of {t}: a parameter or buffer
NUMBERS = (
    "with torch.no_grad(): {t}.mul_(1.3)",
    "with torch.no_grad(): {t}.add_(rand({seed}, {t}, 0.1))",
    "with torch.no_grad(): {t}[0] *= 0.0",
    "{t}.data.mul_(0.7)",
    "{t}.data = {t}.data * 1.25",
    "{t}.data = {t}.data.clone()",
    "{t}.detach().numpy()[...] *= 1.5",
)
SHAPES = (
    "{t} = nn.Parameter({t}.detach()[:1].clone())",
    "{t} = nn.Parameter({t}.detach().float())",
    "{t} = nn.Parameter(torch.cat([{t}.detach()] * 2))",
    "{t} = nn.Parameter(torch.cat([{t}.detach()] * 2, -1))",
    "{t}.data = {t}.data[..., :-1]",
    "{t} = None",
    "del {t}",
)
PARAMETRISED = (
    "parametrize.register_parametrization({o}, '{n}', Doubled())",
    "parametrizations.weight_norm({o}, '{n}')", "parametrizations.spectral_norm({o}, '{n}')",
    "parametrizations.orthogonal({o}, '{n}')",
    "nn.utils.weight_norm({o}, '{n}')", "nn.utils.spectral_norm({o}, '{n}')",
    "prune.random_unstructured({o}, '{n}', 0.4)",
)  # fmt: skip
ACTIVATIONS = ("nn.Tanh()", "nn.GELU()", "nn.PReLU()", "nn.Identity()", "nn.SiLU()", "torch.sin")


def owner(path: str) -> str:
    return f"m.get_submodule({path!r})" if path else "m"


class Drawing:
    """Draws lines for one library.

    Args:
        methods: names of methods of the layer that its forward calls, and forward.
        settings: lines that set what else it reads.
        activation: attributes with its activation.
    """

    def __init__(self, methods: tuple, settings: tuple, activation: tuple) -> None:
        self.methods, self.settings, self.activation = methods, settings, activation

    def tensor(self, draw: random.Random, m: nn.Module) -> tuple[str, str]:
        """An expression of the owner of a parameter or buffer, and its name."""
        names = [n for n, _ in m.named_parameters()] + [n for n, _ in m.named_buffers()]
        path, _, name = draw.choice(names or ["weight"]).rpartition(".")
        return owner(path), name

    def module(self, draw: random.Random, m: nn.Module) -> str:
        """The path of a module; the root as often as all others."""
        paths = [n for n, _ in m.named_modules() if n]
        return draw.choice(paths) if paths and draw.random() < 0.6 else ""

    def line(self, draw: random.Random, m: nn.Module) -> str:
        """One edit."""
        o, n = self.tensor(draw, m)
        path = self.module(draw, m)
        # torch's own norms read past the end of a factor of another shape
        whole = "parametrizations" not in o and not n.endswith(("_g", "_v", "_orig"))
        fill = {"o": o, "n": n, "t": f"{o}.{n}", "seed": draw.randrange(1000)}
        kinds = {
            self.numbers: 8, self.parameters: 5, self.shapes: 2 * whole, self.hooks: 6,
            self.copies: 5, self.moves: 2, self.parametrised: 3, self.classes: 4,
            self.modules: 4, self.setting: 5, self.modes: 2,
        }  # fmt: skip
        (kind,) = draw.choices(list(kinds), list(kinds.values()))
        return kind(draw, path).format(**fill)

    def numbers(self, draw: random.Random, path: str) -> str:
        return draw.choice(NUMBERS)

    def parameters(self, draw: random.Random, path: str) -> str:
        return draw.choice((
            "{t} = nn.Parameter(rand({seed}, {t}))",
            "{t} = nn.Parameter({t}.detach().clone(), requires_grad=False)",
            "{t}.requires_grad_(not {t}.requires_grad)",
            "{t}.requires_grad_(not {t}.requires_grad)",
            "m.requires_grad_(False)", "m.requires_grad_(True)",
            "handles.append({t}.register_hook(lambda g: 2 * g))",
        ))  # fmt: skip

    def shapes(self, draw: random.Random, path: str) -> str:
        return draw.choice(SHAPES)

    def hooks(self, draw: random.Random, path: str) -> str:
        if draw.random() < 0.3:
            return "handles.pop().remove() if handles else None"
        return f"handles.append({owner(path)}.{draw.choice(HOOKS)})"

    def copies(self, draw: random.Random, path: str) -> str:
        return draw.choice((*COPIES, "again()", "again()", "restore()"))

    def moves(self, draw: random.Random, path: str) -> str:
        return draw.choice(MOVES)

    def modes(self, draw: random.Random, path: str) -> str:
        return f"{owner(path)}.{draw.choice(('train()', 'eval()'))}"

    def parametrised(self, draw: random.Random, path: str) -> str:
        return draw.choice(PARAMETRISED)

    def classes(self, draw: random.Random, path: str) -> str:
        if path:
            what = draw.choice(("patch({o}, 'forward')", "patch_class({o}, 'forward')",
                                "gated_forward({o})", "detached({o}, 'forward')",
                                "subclass({o})", "del {o}.forward"))  # fmt: skip
            return what.replace("{o}", owner(path))
        name = draw.choice(self.methods)
        return draw.choice((f"patch(m, '{name}')", f"patch_class(m, '{name}')",
                            f"detached(m, '{name}')", f"del m.{name}", "subclass(m)",
                            "gated_forward(m)", "gated_weight(m)"))  # fmt: skip

    def modules(self, draw: random.Random, path: str) -> str:
        if self.activation and draw.random() < 0.4:
            return f"{draw.choice(self.activation)} = {draw.choice(ACTIVATIONS)}"
        make = draw.choice(("Lora", "Wrapped", "copy.deepcopy", "lambda old: None"))
        return f"replace(m, '{path}', {make})"

    def setting(self, draw: random.Random, path: str) -> str:
        return draw.choice(self.settings)
