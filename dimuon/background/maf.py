"""The paper's masked autoregressive flow, all members of an ensemble in one stack of tensors.

One member is built from nflows parts (`reference_flow`); `StackedMaf` holds the parameters of several in tensors whose
first axis is the member, computes them with batched matrix products and hands them back as nflows modules. The two
agree in log-density to float32 rounding. Internally events are the last axis, where the processor's vectors want them.
`loss` is the form to read, and autograd takes its gradient; training uses the same written out (`maf_gradient`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow as NflowsFlow
from nflows.transforms.autoregressive import MaskedAffineAutoregressiveTransform
from nflows.transforms.base import CompositeTransform
from nflows.transforms.normalization import BatchNorm
from nflows.transforms.permutations import ReversePermutation
from torch import Tensor, nn
from torch.nn import functional as F

from dimuon.background.maf_gradient import BATCH_NORM_EPS, MIN_SCALE, Folded, Gradients, Net

Place = tuple[int, str]

CHUNK = 1024  # events at a time where no gradient is taken: fits a processor's cache
PARTS_PER_BLOCK = 3  # MADE, batch norm, reverse permutation

# name here: (place in the block, name in the nflows module)
PARAMETERS = {
    "first_weight": (0, "autoregressive_net.initial_layer.weight"),
    "first_bias": (0, "autoregressive_net.initial_layer.bias"),
    "context_weight": (0, "autoregressive_net.context_layer.weight"),
    "context_bias": (0, "autoregressive_net.context_layer.bias"),
    "hidden_weight": (0, "autoregressive_net.blocks.0.linear.weight"),
    "hidden_bias": (0, "autoregressive_net.blocks.0.linear.bias"),
    "last_weight": (0, "autoregressive_net.final_layer.weight"),
    "last_bias": (0, "autoregressive_net.final_layer.bias"),
    "norm_weight": (1, "unconstrained_weight"),
    "norm_bias": (1, "bias"),
}
STATISTICS = {"norm_mean": (1, "running_mean"), "norm_variance": (1, "running_var")}
MASKS = {
    "first_mask": (0, "autoregressive_net.initial_layer.mask"),
    "hidden_mask": (0, "autoregressive_net.blocks.0.linear.mask"),
    "last_mask": (0, "autoregressive_net.final_layer.mask"),
}


def reference_flow(n_features: int, hidden: int, blocks: int) -> Any:
    """One member as an nflows `Flow` (slides, "Network architectures"; the published code's density_estimator.py).

    Per block: MADE with one hidden layer after the first, tanh, affine; batch norm; reverse permutation. Batch norm
    has momentum 1: its statistics are those of the last call in training mode, which is one over the whole training
    set after every epoch. Differences to the published code come with the nflows parts: the scale is a softplus, not
    an exponential, and the mass enters the first layer through a tanh.
    """
    parts: list[nn.Module] = []
    for _ in range(blocks):
        made = MaskedAffineAutoregressiveTransform(
            n_features,
            hidden,
            context_features=1,
            num_blocks=1,
            use_residual_blocks=False,
            activation=torch.tanh,
        )
        parts += [
            made,
            BatchNorm(n_features, eps=BATCH_NORM_EPS, momentum=1.0),
            ReversePermutation(n_features),
        ]
    return NflowsFlow(CompositeTransform(parts), StandardNormal([n_features]))


class StackedMaf(nn.Module):
    """Several `reference_flow`s as one module; every parameter has the member as its first axis, the block as second.

    flows: nflows flows of equal shape, one per member. Arrays in and out: features (members, n_features, n_events),
    mass (members, 1, n_events); in training mode batch norm takes its statistics from the events handed in.
    """

    needs_noise = False  # the loss is the exact negative log-density

    first_weight: Tensor
    first_bias: Tensor
    context_weight: Tensor
    context_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    last_weight: Tensor
    last_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    norm_mean: Tensor
    norm_variance: Tensor
    first_mask: Tensor
    hidden_mask: Tensor
    last_mask: Tensor

    def __init__(self, flows: Sequence[Any]) -> None:
        super().__init__()
        self.n_features, self.hidden, self.blocks = _shape(flows[0])
        for name, place in PARAMETERS.items():
            setattr(self, name, nn.Parameter(_stack(flows, place, self.blocks)))
        for name, place in STATISTICS.items():
            self.register_buffer(name, _stack(flows, place, self.blocks))
        for name, place in MASKS.items():  # the same in every block and member
            self.register_buffer(name, _stack(flows[:1], place, 1)[0, 0], persistent=False)
        self.differentiated = Gradients()

    @classmethod
    def build(cls, n_features: int, settings: Any, seeds: Sequence[int]) -> "StackedMaf":
        """Untrained members, one per seed, each initialised as nflows does. settings: of `estimators.flows`."""
        flows = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                flows.append(reference_flow(n_features, settings.hidden, settings.blocks))
        return cls(flows)

    def nflows_flows(self) -> list[Any]:
        """The members as nflows flows, in evaluation mode."""
        flows = []
        for member in range(len(self.first_weight)):
            flow = reference_flow(self.n_features, self.hidden, self.blocks)
            state = flow.state_dict()
            for name, (place, part) in {**PARAMETERS, **STATISTICS}.items():
                for block, value in enumerate(getattr(self, name)[member].detach()):
                    state[_nflows_name(block, place, part)] = value.clone()
            flow.load_state_dict(state)
            flows.append(flow.eval())
        return flows

    def loss(self, x: Tensor, mass: Tensor, noise: Tensor | None = None) -> Tensor:
        """Negative log-density [nats]: (members, n_events). noise: not used."""
        return -self.log_prob(x, mass)

    def differentiate(self, x: Tensor, mass: Tensor, noise: Tensor | None = None) -> Tensor:
        """The gradient of `loss` as `autograd.ByAutograd` takes it, written out (`maf_gradient`)."""
        return self.differentiated(self, x, mass)

    def finish_epoch(self, x: Tensor, mass: Tensor) -> None:
        """Take the batch norm's statistics over the whole training set, block after block."""
        chunks = range(0, x.shape[2], CHUNK)
        with torch.no_grad():
            folded = Folded.of(self)
            for block in range(self.blocks):
                parts = []
                for start in chunks:
                    part = x[..., start : start + CHUNK]
                    scale, shift = folded.net(block, mass[..., start : start + CHUNK])(part)
                    parts.append(torch.addcmul(shift, scale, part))
                x = torch.cat(parts, dim=2)
                variance, mean = torch.var_mean(x, dim=2, keepdim=True)
                self.norm_mean[:, block], self.norm_variance[:, block] = mean[..., 0], variance[..., 0]
                x = self._normalised(x, block, mean, variance + BATCH_NORM_EPS)

    def log_prob(self, x: Tensor, mass: Tensor) -> Tensor:
        """Log-density [nats]: (members, n_events)."""
        scales, variances = [], []
        for block, net in enumerate(self._nets(mass)):
            scale, shift = net(x)
            x = torch.addcmul(shift, scale, x)
            if self.training:
                variance, mean = torch.var_mean(x, dim=2, keepdim=True)
            else:
                mean, variance = self.norm_mean[:, block, :, None], self.norm_variance[:, block, :, None]
            variance = variance + BATCH_NORM_EPS
            x = self._normalised(x, block, mean, variance)
            scales.append(scale)
            variances.append(variance)
        norm = self._norm_scale().log().sum((1, 2, 3)) - 0.5 * torch.cat(variances, 1).log().sum((1, 2))
        log_jacobian = torch.cat(scales, 1).log().sum(1) + norm[:, None]
        return log_jacobian - 0.5 * (x * x).sum(1) - 0.5 * self.n_features * math.log(2 * math.pi)

    def to_noise(self, x: Tensor, mass: Tensor) -> Tensor:
        """The standard normal noise that features stand for, the inverse of `from_noise`; in evaluation mode."""
        for block, net in enumerate(self._nets(mass)):
            scale, shift = net(x)
            mean, variance = self.norm_mean[:, block, :, None], self.norm_variance[:, block, :, None]
            x = self._normalised(torch.addcmul(shift, scale, x), block, mean, variance + BATCH_NORM_EPS)
        return x

    def from_noise(self, noise: Tensor, mass: Tensor) -> Tensor:
        """The features that standard normal noise stands for: (members, n_features, n_events), both."""
        x = noise
        for block, net in reversed(list(enumerate(self._nets(mass)))):
            z = x.flip(1)
            variance = self.norm_variance[:, block, :, None] + BATCH_NORM_EPS
            z = (z - self.norm_bias[:, block, :, None]) / self._norm_scale(block) * variance.sqrt()
            z = z + self.norm_mean[:, block, :, None]
            x = torch.zeros_like(z)
            for feature in range(self.n_features):  # feature j depends on the features before it
                scale, shift = net(x)
                x[:, feature] = (z[:, feature] - shift[:, feature]) / scale[:, feature]
        return x

    def _normalised(self, x: Tensor, block: int, mean: Tensor, variance: Tensor) -> Tensor:
        """x after the batch norm and the reverse permutation of a block."""
        scale = self._norm_scale(block) * variance.rsqrt()
        return torch.addcmul(self.norm_bias[:, block, :, None], x - mean, scale).flip(1)

    def _nets(self, mass: Tensor) -> list[Net]:
        """The functions from features to (scale, shift) at these masses, of each block; folded without a gradient."""
        if not torch.is_grad_enabled():
            folded = Folded.of(self)
            return [folded.net(block, mass) for block in range(self.blocks)]

        def blocks(values: Tensor) -> Tensor:
            return values.transpose(0, 1)

        context = torch.addcmul(blocks(self.context_bias)[..., None], blocks(self.context_weight), mass[None])
        context = tanh(context) + blocks(self.first_bias)[..., None]
        layers = zip(
            context.unbind(0),
            (blocks(self.first_weight) * self.first_mask).unbind(0),
            (blocks(self.hidden_weight) * self.hidden_mask).unbind(0),
            blocks(self.hidden_bias)[..., None].unbind(0),
            (blocks(self.last_weight) * self.last_mask).unbind(0),
            blocks(self.last_bias)[..., None].unbind(0),
            strict=True,
        )
        return [_made(*layer) for layer in layers]

    def _norm_scale(self, block: int | slice = slice(None)) -> Tensor:
        return (F.softplus(self.norm_weight[:, block]) + BATCH_NORM_EPS)[..., None]


def _made(context: Tensor, first: Tensor, hidden: Tensor, hidden_bias: Tensor, last: Tensor, last_bias: Tensor) -> Net:
    def net(x: Tensor) -> tuple[Tensor, Tensor]:
        h = tanh(torch.baddbmm(context, first, x))
        h = tanh(torch.baddbmm(hidden_bias, hidden, h))
        members, n_features, n_events = x.shape
        output = torch.baddbmm(last_bias, last, h).view(members, n_features, 2, n_events)
        unconstrained, shift = output.unbind(2)
        return F.softplus(unconstrained) + MIN_SCALE, shift

    return net


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2x) - 1: on a CPU several times faster than torch.tanh, the same to 2e-7."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(2 * x).mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, y)


tanh: Callable[[Tensor], Tensor] = _Tanh.apply


def _stack(flows: Sequence[Any], place: Place, blocks: int) -> Tensor:
    states = [flow.state_dict() for flow in flows]
    members = [torch.stack([state[_nflows_name(block, *place)] for block in range(blocks)]) for state in states]
    return torch.stack(members).clone()


def _nflows_name(block: int, place: int, part: str) -> str:
    return f"_transform._transforms.{PARTS_PER_BLOCK * block + place}.{part}"


def _shape(flow: Any) -> tuple[int, int, int]:
    """(features, hidden features, blocks) of a `reference_flow`."""
    transforms = flow._transform._transforms
    hidden, n_features = transforms[0].autoregressive_net.initial_layer.weight.shape
    return n_features, hidden, len(transforms) // PARTS_PER_BLOCK
