"""Rational-quadratic spline flows (Durkan et al., arXiv:1906.04032), autoregressive or coupling.

A spline bends where an affine block can only shift and stretch, so fewer blocks do. A member begins as nflows builds
it (`reference_flow`); the parameters of all members are stacked, member first, and computed together with batched
matrix products. Both agree in log-density to float32 rounding. Events are the last axis, as in `maf`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow as NflowsFlow
from nflows.nn.nets import ResidualNet
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from nflows.transforms.base import CompositeTransform
from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform
from nflows.transforms.permutations import ReversePermutation
from torch import Tensor, nn

from dimuon.background import rational_quadratic
from dimuon.background.autograd import ByAutograd
from dimuon.background.rational_quadratic import BOUND
from dimuon.errors import AnalysisError

RESIDUAL_BLOCKS = 2  # of two layers each, in the network of every spline block
CONTEXTS = 1 + RESIDUAL_BLOCKS  # layers of it that see the mass


class SplineFlows(ByAutograd, nn.Module):
    """Several `reference_flow`s as one module; every parameter has the member as its first axis.

    Arrays in and out: features (members, n_features, n_events), mass (members, 1, n_events).
    """

    needs_noise = False  # the loss is the exact negative log-density
    parts_per_block: int  # transforms of nflows
    network: str  # name of the network in the first of them

    def __init__(self, flows: Sequence[Any], n_features: int, bins: int) -> None:
        super().__init__()
        self.n_features, self.bins = n_features, bins
        self.blocks = len(flows[0]._transform._transforms) // self.parts_per_block
        for name, _ in flows[0].named_parameters():
            values = torch.stack([flow.get_parameter(name).detach() for flow in flows])
            self.register_parameter(_flat(name), nn.Parameter(values))
        for name, value in flows[0].named_buffers():
            if name.endswith(".mask"):  # the same in every member
                self.register_buffer(_flat(name), value, persistent=False)

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> "SplineFlows":
        """Untrained members, one per seed. settings: of `estimators.flows`."""
        return cls([cls.reference_flow(n_features, settings, seed) for seed in seeds], n_features, settings.bins)

    @classmethod
    def reference_flow(cls, n_features: int, settings: Any, seed: int) -> Any:
        """One untrained member as an nflows `Flow`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = [part for index in range(settings.blocks) for part in cls.block(index, n_features, settings)]
        return NflowsFlow(CompositeTransform(parts), StandardNormal([n_features])).eval()

    @classmethod
    def block(cls, index: int, n_features: int, settings: Any) -> list[nn.Module]:
        """The nflows transforms of a block."""
        raise NotImplementedError

    def loss(self, x: Tensor, mass: Tensor, noise: Tensor | None = None) -> Tensor:
        """Negative log-density [nats]: (members, n_events). noise: not used."""
        return -self.log_prob(x, mass)

    def finish_epoch(self, x: Tensor, mass: Tensor) -> None:
        """Nothing to do: these flows keep no statistics."""

    def log_prob(self, x: Tensor, mass: Tensor) -> Tensor:
        """Log-density [nats]: (members, n_events)."""
        contexts, log_derivatives = self._contexts(mass), []
        for index, context in enumerate(contexts):
            x, log_derivative = self._forward(index, x, context)
            log_derivatives.append(log_derivative)
        log_jacobian = torch.cat(log_derivatives, 1).sum(1)
        return log_jacobian - 0.5 * (x * x).sum(1) - 0.5 * self.n_features * math.log(2 * math.pi)

    def to_noise(self, x: Tensor, mass: Tensor) -> Tensor:
        """The standard normal noise that features stand for, the inverse of `from_noise`."""
        for index, context in enumerate(self._contexts(mass)):
            x, _ = self._forward(index, x, context)
        return x

    def from_noise(self, noise: Tensor, mass: Tensor) -> Tensor:
        """The features that standard normal noise stands for: (members, n_features, n_events), both.

        Computed in float64: in float32 the inverse of a spline loses digits where the forward form does not.
        """
        x, contexts = noise.double(), self._contexts(mass.double())
        for index in reversed(range(self.blocks)):
            x = self._inverse(index, x, contexts[index])
        return x.to(noise.dtype)

    def _forward(self, index: int, x: Tensor, context: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(x after a block, log-derivative of what the block moves). context: of the block."""
        raise NotImplementedError

    def _inverse(self, index: int, z: Tensor, context: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def _contexts(self, mass: Tensor) -> list[Sequence[Tensor]]:
        """What the mass brings to the layers of the network of each block: (members, hidden, n_events) a layer."""
        layers = [self._of_mass(index, layer, mass.dtype) for index in range(self.blocks) for layer in range(CONTEXTS)]
        weight, bias = (torch.cat(parts, 1) for parts in zip(*layers, strict=True))
        parts = torch.baddbmm(bias[..., None], weight, mass).chunk(len(layers), 1)
        return [parts[start : start + CONTEXTS] for start in range(0, len(parts), CONTEXTS)]

    def _of_mass(self, index: int, layer: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(weight of the mass, bias) of one of these."""
        name = "context_layer" if layer == 0 else f"blocks.{layer - 1}.context_layer"
        return self._parameter(index, f"{name}.weight", dtype), self._parameter(index, f"{name}.bias", dtype)

    def _parameter(self, index: int, name: str, dtype: torch.dtype) -> Tensor:
        """A parameter of the network of a block; of masked weights what the mask leaves."""
        place = f"_transform._transforms.{self.parts_per_block * index}.{self.network}.{name}"
        value = self.get_parameter(_flat(place))
        mask = self._buffers.get(_flat(place.removesuffix("weight") + "mask")) if name.endswith("weight") else None
        return (value if mask is None else value * mask).to(dtype)

    def _linear(self, index: int, layer: str, x: Tensor) -> Tensor:
        """A linear layer of the network of a block, of all members. x: (members, n_in, n_events)."""
        weight, bias = (self._parameter(index, f"{layer}.{name}", x.dtype) for name in ("weight", "bias"))
        return torch.baddbmm(bias[..., None], weight, x)

    def _by_feature(self, output: Tensor) -> Tensor:
        """The output of a network as parameters of splines: (members, features moved, 3 n_bins - 1, n_events)."""
        return output.reshape(len(output), -1, 3 * self.bins - 1, output.shape[-1])


class SplineAutoregressive(SplineFlows):
    """Masked autoregressive splines: every feature given the ones before it."""

    parts_per_block = 2  # splines, reverse permutation
    network = "autoregressive_net"

    @classmethod
    def block(cls, index: int, n_features: int, settings: Any) -> list[nn.Module]:
        """The nflows transforms of a block."""
        spline = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
            n_features,
            settings.hidden,
            context_features=1,
            num_bins=settings.bins,
            tails="linear",
            tail_bound=BOUND,
            num_blocks=RESIDUAL_BLOCKS,
        )
        return [spline, ReversePermutation(n_features)]

    def _forward(self, index: int, x: Tensor, context: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        x, log_derivative = rational_quadratic.forward(x, self._splines(index, x, context))
        return x.flip(1), log_derivative

    def _inverse(self, index: int, z: Tensor, context: Sequence[Tensor]) -> Tensor:
        z = z.flip(1)
        x = torch.zeros_like(z)
        for feature in range(self.n_features):  # feature j depends on the features before it
            x[:, feature] = rational_quadratic.inverse(z[:, feature], self._splines(index, x, context)[:, feature])
        return x

    def _splines(self, index: int, x: Tensor, context: Sequence[Tensor]) -> Tensor:
        """(members, n_features, 3 n_bins - 1, n_events); a masked residual network, to which the mass is added."""
        h = self._linear(index, "initial_layer", x) + context[0].relu()
        for block, of_mass in enumerate(context[1:]):
            inner = self._linear(index, f"blocks.{block}.linear_layers.0", h.relu()) + of_mass
            h = h + self._linear(index, f"blocks.{block}.linear_layers.1", inner.relu())
        return self._by_feature(self._linear(index, "final_layer", h))


class SplineCoupling(SplineFlows):
    """Coupling splines: every other feature given the rest, in turn; density and samples cost the same."""

    parts_per_block = 1
    network = "transform_net"

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> "SplineFlows":
        """Untrained members, one per seed. Raises `AnalysisError` for a single feature."""
        if n_features < 2:
            raise AnalysisError(
                "spline_coupling needs at least two features; choose maf or spline_autoregressive", setting="kind"
            )
        return super().build(n_features, settings, seeds)

    @classmethod
    def block(cls, index: int, n_features: int, settings: Any) -> list[nn.Module]:
        """The nflows transforms of a block."""

        def network(n_in: int, n_out: int) -> Any:
            return ResidualNet(n_in, n_out, settings.hidden, context_features=1, num_blocks=RESIDUAL_BLOCKS)

        moved = [(feature + index) % 2 for feature in range(n_features)]
        return [
            PiecewiseRationalQuadraticCouplingTransform(
                moved, network, num_bins=settings.bins, tails="linear", tail_bound=BOUND
            )
        ]

    def _forward(self, index: int, x: Tensor, context: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        kept, moved = self._parts(index)
        y = x.clone()
        y[:, moved], log_derivative = rational_quadratic.forward(x[:, moved], self._splines(index, x[:, kept], context))
        return y, log_derivative

    def _inverse(self, index: int, z: Tensor, context: Sequence[Tensor]) -> Tensor:
        kept, moved = self._parts(index)
        x = z.clone()
        x[:, moved] = rational_quadratic.inverse(z[:, moved], self._splines(index, z[:, kept], context))
        return x

    def _parts(self, index: int) -> tuple[slice, slice]:
        """The features that a block keeps, and those that it moves given them."""
        return slice(index % 2, None, 2), slice(1 - index % 2, None, 2)

    def _of_mass(self, index: int, layer: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """As of every network; the first layer sees the mass beside the features, as the last of them."""
        if layer:
            return super()._of_mass(index, layer, dtype)
        weight, bias = (self._parameter(index, f"initial_layer.{name}", dtype) for name in ("weight", "bias"))
        return weight[..., -1:], bias

    def _splines(self, index: int, kept: Tensor, context: Sequence[Tensor]) -> Tensor:
        """(members, n_moved, 3 n_bins - 1, n_events); a residual network, gated by the mass."""
        weight = self._parameter(index, "initial_layer.weight", kept.dtype)
        h = torch.baddbmm(context[0], weight[..., :-1], kept)
        for block, of_mass in enumerate(context[1:]):
            inner = self._linear(index, f"blocks.{block}.linear_layers.0", h.relu())
            inner = self._linear(index, f"blocks.{block}.linear_layers.1", inner.relu())
            h = torch.addcmul(h, inner, of_mass.sigmoid())
        splines = self._by_feature(self._linear(index, "final_layer", h))
        soft = torch.ones(3 * self.bins - 1, 1, dtype=h.dtype, device=h.device)
        soft[: 2 * self.bins] = h.shape[1] ** -0.5  # as nflows does where a network says its size
        return splines * soft


def _flat(name: str) -> str:
    return name.replace(".", "__")
