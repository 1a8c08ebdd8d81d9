"""Conditional flow matching (arXiv:2210.02747): a network learns the velocity that carries noise to data.

On the straight path x_t = (1 - t) z + t x from noise z to an event x the velocity is x - z; the network is its mean
at (x_t, t, mass). Times are drawn logit-normal, as in the diffusion model of the ATLAS dijet search (appendix B).
Sampling integrates the velocity from t = 0 to 1, the density follows from its divergence.

The loss is over random times and noise, so that the weights never come to rest. Outside the training the network
computes with their average over the last epochs, as is usual for such models (arXiv:2006.11239, appendix B).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dimuon.background.autograd import ByAutograd

DECAY = 0.9  # of the average, per epoch; less in the first ones, whose weights are far from the last
N_FIRST = 2


class FlowMatching(ByAutograd, nn.Module):
    """Velocity networks of several members, stacked. Shapes and interface as `maf.StackedMaf`.

    weights, biases: of each layer, (members, n_out, n_in) and (members, n_out). steps: Runge-Kutta steps of fourth
    order over the unit time. Beside each parameter its average over the epochs is kept, a buffer.
    """

    needs_noise = True  # the loss is over random times and random noise

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], steps: int) -> None:
        super().__init__()
        self.n_features, self.n_layers, self.steps = weights[-1].shape[1], len(weights), steps
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            self.register_parameter(f"weight_{layer}", nn.Parameter(weight))
            self.register_parameter(f"bias_{layer}", nn.Parameter(bias))
            self.register_buffer(f"mean_weight_{layer}", weight.clone())
            self.register_buffer(f"mean_bias_{layer}", bias.clone())
        self.register_buffer("n_averaged", torch.zeros(len(weights[0])))

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> "FlowMatching":
        """Untrained members, one per seed: `blocks` hidden layers of `hidden` units."""
        sizes = [n_features + cls.n_conditions(settings), *[settings.hidden] * settings.blocks, n_features]
        members = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                members.append([nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:], strict=True)])
        layers = list(zip(*members, strict=True))
        weights = [torch.stack([linear.weight.detach() for linear in layer]) for layer in layers]
        biases = [torch.stack([linear.bias.detach() for linear in layer]) for layer in layers]
        return cls(weights, biases, settings.ode_steps)

    @staticmethod
    def n_conditions(settings: Any) -> int:
        """Inputs of the network beside the features."""
        return 2

    def conditions(self, t: Tensor, mass: Tensor) -> list[Tensor]:
        """What the network is told beside the features, `n_conditions` rows in all. t, mass: (members, 1, n_events)."""
        return [t, mass]

    def velocity(self, x: Tensor, t: Tensor, mass: Tensor) -> Tensor:
        """(members, n_features, n_events). x: the same; t, mass: (members, 1, n_events)."""
        h, prefix = torch.cat([x, *self.conditions(t, mass)], dim=1), "" if self.training else "mean_"
        for layer in range(self.n_layers):
            weight, bias = getattr(self, f"{prefix}weight_{layer}"), getattr(self, f"{prefix}bias_{layer}")
            h = torch.baddbmm(bias[..., None], weight, h)
            if layer < self.n_layers - 1:
                h = F.silu(h)
        return h

    def loss(self, x: Tensor, mass: Tensor, noise: Tensor | None) -> Tensor:
        """Squared error of the velocity, mean over the features: (members, n_events).

        noise: (members, n_features + 1, n_events), standard normal: the first row gives the times.
        """
        if noise is None:
            raise ValueError("flow matching needs noise for its loss")
        t, z = torch.sigmoid(noise[:, :1]), noise[:, 1:]
        return (self.velocity((1 - t) * z + t * x, t, mass) - (x - z)).square().mean(dim=1)

    @torch.no_grad()
    def finish_epoch(self, x: Tensor, mass: Tensor) -> None:
        """Take the weights of this epoch into their average."""
        n = self.get_buffer("n_averaged")
        share = 1 - torch.clamp(n / (n + N_FIRST), max=DECAY)
        for name, value in self.named_parameters():
            self.get_buffer(f"mean_{name}").lerp_(value, share.view(-1, *[1] * (value.ndim - 1)))
        n += 1

    def from_noise(self, noise: Tensor, mass: Tensor) -> Tensor:
        """The features that standard normal noise stands for: (members, n_features, n_events), both."""
        return self._integrate(noise, 0.0, 1.0, lambda x, t: self.velocity(x, t, mass))

    def log_prob(self, x: Tensor, mass: Tensor) -> Tensor:
        """Log-density [nats]: (members, n_events); exact up to the integration's steps."""

        def rates(state: Tensor, t: Tensor) -> Tensor:
            with torch.enable_grad():
                x = state[:, :-1].detach().requires_grad_(True)
                velocity = self.velocity(x, t, mass)
                slopes = [
                    torch.autograd.grad(velocity[:, j].sum(), x, retain_graph=True)[0][:, j]
                    for j in range(self.n_features)
                ]
            return torch.cat([velocity.detach(), sum(slopes, torch.zeros(()))[:, None]], dim=1)

        start = torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
        end = self._integrate(start, 1.0, 0.0, rates)
        z, minus_divergence = end[:, :-1], end[:, -1]  # integrated backwards in time
        return minus_divergence - 0.5 * (z * z).sum(1) - 0.5 * self.n_features * math.log(2 * math.pi)

    def _integrate(self, state: Tensor, start: float, stop: float, rates: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Runge-Kutta of fourth order. rates(state, t): the derivative of state; t: (members, 1, n_events)."""
        step = (stop - start) / self.steps
        for index in range(self.steps):
            t = torch.full_like(state[:, :1], start + index * step)
            k1 = rates(state, t)
            k2 = rates(state + 0.5 * step * k1, t + 0.5 * step)
            k3 = rates(state + 0.5 * step * k2, t + 0.5 * step)
            k4 = rates(state + step * k3, t + step)
            state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return state


class InterpolatedFlowMatching(FlowMatching):
    """A velocity that resolves narrow masses, and can be interpolated across some (SIGMA, arXiv:2410.20537).

    Beside the mass m, standard scaled, the network is told sin and cos of 2^k pi m / 2 for k = 0, 1 ...: a smooth
    network of m alone smears a resonance over its neighbours. Between the masses `across` (scaled) the velocity is the
    straight line between those at the two ends, at the same place and time; a resonance in between has no say in it.
    """

    across: tuple[float, float] | None = None

    @staticmethod
    def n_conditions(settings: Any) -> int:
        """Time, mass, and two of each frequency."""
        return 2 + 2 * int(settings.frequencies)

    def conditions(self, t: Tensor, mass: Tensor) -> list[Tensor]:
        """Time, mass, sines, cosines."""
        n_inputs = self.get_parameter("weight_0").shape[2]
        n_frequencies = (n_inputs - self.n_features - 2) // 2
        octaves = 2.0 ** torch.arange(n_frequencies, dtype=mass.dtype, device=mass.device)
        angle = 0.5 * math.pi * octaves[:, None] * mass
        return [t, mass, torch.sin(angle), torch.cos(angle)]

    def velocity(self, x: Tensor, t: Tensor, mass: Tensor) -> Tensor:
        """(members, n_features, n_events), as learned or, across some masses, interpolated."""
        learned = super().velocity
        if self.across is None:
            return learned(x, t, mass)
        low, high = self.across
        share = (mass - low) / (high - low)
        inside = (share > 0) & (share < 1)
        if not inside.any():
            return learned(x, t, mass)
        at_low, at_high = (learned(x, t, torch.where(inside, end, mass)) for end in (low, high))
        return torch.lerp(at_low, at_high, torch.where(inside, share, 0.0))
