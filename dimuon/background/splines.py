"""Rational-quadratic spline flows (Durkan et al., arXiv:1906.04032), autoregressive or coupling, from nflows parts.

A spline bends where an affine block can only shift and stretch, so fewer blocks do. The members are plain nflows
flows computed one after the other; their parameters are kept stacked, member first, as the training expects.
"""

from collections.abc import Callable, Sequence
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
from torch.func import functional_call

from dimuon.background.autograd import ByAutograd
from dimuon.errors import AnalysisError

TAIL_BOUND = 8.0  # the splines act within +-8 standard deviations, the identity beyond
RESIDUAL_BLOCKS = 2  # of two layers each, in the network of every spline block


class SplineFlows(ByAutograd, nn.Module):
    """Several nflows flows of equal shape as one module. Shapes and interface as `maf.StackedMaf`."""

    needs_noise = False

    def __init__(self, flows: Sequence[Any], n_features: int) -> None:
        super().__init__()
        self.n_features = n_features
        self._template = [flows[0].eval()]  # in a list: its own parameters are not this module's
        self._names = [name for name, _ in flows[0].named_parameters()]
        for name in self._names:
            values = torch.stack([flow.get_parameter(name).detach() for flow in flows])
            self.register_parameter(_flat(name), nn.Parameter(values))

    def loss(self, x: Tensor, mass: Tensor, noise: Tensor | None = None) -> Tensor:
        """Negative log-density [nats]: (members, n_events). noise: not used."""
        return -self.log_prob(x, mass)

    def finish_epoch(self, x: Tensor, mass: Tensor) -> None:
        """Nothing to do: these flows keep no statistics."""

    def log_prob(self, x: Tensor, mass: Tensor) -> Tensor:
        """Log-density [nats]: (members, n_events). x: (members, n_features, n_events), mass: (members, 1, n_events)."""
        members = zip(x.transpose(1, 2), mass.transpose(1, 2), strict=True)
        return torch.stack([self._call(i, "log_prob", *pair) for i, pair in enumerate(members)])

    def to_noise(self, x: Tensor, mass: Tensor) -> Tensor:
        """The standard normal noise that features stand for, the inverse of `from_noise`."""
        members = zip(x.transpose(1, 2), mass.transpose(1, 2), strict=True)
        return torch.stack([self._call(i, "transform_to_noise", *pair) for i, pair in enumerate(members)]).transpose(
            1, 2
        )

    def from_noise(self, noise: Tensor, mass: Tensor) -> Tensor:
        """The features that standard normal noise stands for: (members, n_features, n_events), both.

        Computed in float64: in float32 the inverse of a spline meets square roots of negative rounding errors.
        """
        members = zip(noise.double().transpose(1, 2), mass.double().transpose(1, 2), strict=True)
        samples = [self._call(i, "inverse", *pair, dtype=torch.float64) for i, pair in enumerate(members)]
        return torch.stack(samples).transpose(1, 2).to(noise.dtype)

    def _call(self, member: int, method: str, x: Tensor, mass: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        flow = _Method(self._template[0].to(x.device), method)  # its masks and permutations are not parameters
        parameters = {f"flow.{name}": self.get_parameter(_flat(name))[member].to(dtype) for name in self._names}
        value: Tensor = functional_call(flow, parameters, (x, mass))
        return value


class SplineAutoregressive(SplineFlows):
    """Masked autoregressive splines: every feature given the ones before it."""

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> "SplineAutoregressive":
        """Untrained members, one per seed. settings: of `estimators.flows`."""

        def block(index: int) -> list[nn.Module]:
            spline = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                n_features,
                settings.hidden,
                context_features=1,
                num_bins=settings.bins,
                tails="linear",
                tail_bound=TAIL_BOUND,
                num_blocks=RESIDUAL_BLOCKS,
            )
            return [spline, ReversePermutation(n_features)]

        return cls([_flow(block, n_features, settings, seed) for seed in seeds], n_features)


class SplineCoupling(SplineFlows):
    """Coupling splines: every other feature given the rest, in turn; density and samples cost the same."""

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> "SplineCoupling":
        """Untrained members, one per seed. Raises `AnalysisError` for a single feature."""
        if n_features < 2:
            raise AnalysisError(
                "spline_coupling needs at least two features; choose maf or spline_autoregressive", setting="kind"
            )

        def network(n_in: int, n_out: int) -> Any:
            return ResidualNet(n_in, n_out, settings.hidden, context_features=1, num_blocks=RESIDUAL_BLOCKS)

        def block(index: int) -> list[nn.Module]:
            mask = [(feature + index) % 2 for feature in range(n_features)]
            return [
                PiecewiseRationalQuadraticCouplingTransform(
                    mask, network, num_bins=settings.bins, tails="linear", tail_bound=TAIL_BOUND
                )
            ]

        return cls([_flow(block, n_features, settings, seed) for seed in seeds], n_features)


class _Method(nn.Module):
    """A method of a flow as a module's forward, which is what `functional_call` calls."""

    def __init__(self, flow: Any, method: str) -> None:
        super().__init__()
        self.flow, self.method = flow, method

    def forward(self, x: Tensor, mass: Tensor) -> Any:
        if self.method == "inverse":
            return self.flow._transform.inverse(x, context=mass)[0]
        return getattr(self.flow, self.method)(x, context=mass)


def _flow(block: Callable[[int], list[nn.Module]], n_features: int, settings: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = [part for index in range(settings.blocks) for part in block(index)]
    return NflowsFlow(CompositeTransform(parts), StandardNormal([n_features]))


def _flat(name: str) -> str:
    return name.replace(".", "__")
