"""Loss and gradient of a stack of masked autoregressive flows, written out: what `StackedMaf.loss` and autograd give.

A step of training is some hundred operations on small arrays, and with autograd most of its time is bookkeeping and
memory that is taken and given back. Here every array has its place, and what can be done for all blocks at once is. A
tanh is taken as a sigmoid, tanh(a) = 2 s(2a) - 1, whose factors go into the weights next to it (`Folded`): with s1, s2
and s_c the sigmoids of the two hidden layers and of what the mass adds,

    2 a1 = 2 W1 x + 4 s_c + 2 (b1 - 1)      2 a2 = 4 W2 s1 + 2 (b2 - W2 1)      (u, shift) = 2 W3 s2 + b3 - W3 1

and d tanh/da = 4 s (1 - s): factors of four of the gradients, 4 of a2, 16 of a1, 64 of what the mass adds, are put off
until they reach the weights. Arrays have the block as first axis, the member as second, events as last.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from dimuon.background.maf import StackedMaf

Net = Callable[[Tensor], tuple[Tensor, Tensor]]  # from features to (scale, shift)

MIN_SCALE = 1e-3  # MaskedAffineAutoregressiveTransform: scale = softplus(u) + 1e-3
BATCH_NORM_EPS = 1e-5  # BatchNorm: its eps
LENGTHS = 4  # of batches whose arrays are kept: an epoch has two, a stack of several samples some more

_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward.grad_input  # (gradient, s, grad_input=) -> gradient s (1 - s)


class Folded:
    """The weights of a stack as the sums above want them, masked; in the last layer all u come before all shifts."""

    def __init__(self, model: "StackedMaf") -> None:
        members, blocks, hidden, n = model.first_weight.shape
        new = model.first_weight.new_empty
        self.n_features = n
        self.context = new(blocks, members, hidden, 2)  # of the mass and of 1, twice
        self.first = new(blocks, members, hidden, n + 1)  # of the features and of 1
        self.hidden, self.hidden_bias = new(blocks, members, hidden, hidden), new(blocks, members, hidden, 1)
        self.last, self.last_bias = new(blocks, members, 2 * n, hidden), new(blocks, members, 2 * n, 1)
        self.norm_scale, self.norm_bias = new(blocks, members, n, 1), new(blocks, members, n, 1)

    @classmethod
    def of(cls, model: "StackedMaf") -> "Folded":
        """The present weights of a model."""
        folded = cls(model)
        folded.update(model)
        return folded

    def net(self, block: int, mass: Tensor) -> Net:
        """The function from features to (scale, shift) of a block at these masses, (members, 1, n_events)."""
        n, first = self.n_features, self.first[block]
        s_context = torch.baddbmm(self.context[block, ..., 1:], self.context[block, ..., :1], mass).sigmoid_()
        context = torch.add(2 * first[..., n:], s_context, alpha=4, out=s_context)

        def net(x: Tensor) -> tuple[Tensor, Tensor]:
            s = torch.baddbmm(context, first[..., :n], x, alpha=2).sigmoid_()
            s = torch.baddbmm(self.hidden_bias[block], self.hidden[block], s, alpha=4).sigmoid_()
            output = torch.baddbmm(self.last_bias[block], self.last[block], s, alpha=2)
            return F.softplus(output[:, :n]).add_(MIN_SCALE), output[:, n:]

        return net

    def update(self, model: "StackedMaf") -> None:
        """Take the present weights of the model."""
        n = self.n_features
        torch.mul(_swapped(model.context_weight)[..., 0], 2, out=self.context[..., 0])
        torch.mul(_swapped(model.context_bias), 2, out=self.context[..., 1])
        torch.mul(_swapped(model.first_weight), model.first_mask, out=self.first[..., :n])
        torch.sub(_swapped(model.first_bias), 1, out=self.first[..., n])
        torch.mul(_swapped(model.hidden_weight), model.hidden_mask, out=self.hidden)
        torch.sub(_swapped(model.hidden_bias), self.hidden.sum(-1), out=self.hidden_bias[..., 0]).mul_(2)
        self.last.copy_(_regrouped(_swapped(model.last_weight) * model.last_mask, n))
        bias = _regrouped(_swapped(model.last_bias), n)
        torch.sub(bias, self.last.sum(-1), out=self.last_bias[..., 0])
        torch.add(_swapped(F.softplus(model.norm_weight)), BATCH_NORM_EPS, out=self.norm_scale[..., 0])
        self.norm_bias[..., 0].copy_(_swapped(model.norm_bias))


class Gradients:
    """The gradient of a stack's loss; keeps the arrays of a step for the next one of as many members and events."""

    def __init__(self) -> None:
        self.steps = dict[tuple[int, int], _Step]()

    def __call__(self, model: "StackedMaf", x: Tensor, mass: Tensor) -> Tensor:
        """Put the gradient of the sum of the members' mean losses into the weights' `grad`; as in training mode.

        x: (members, n_features, n_events); mass: (members, 1, n_events). Returns the sum of the losses of each member
        [nats], (members,).
        """
        shape = (x.shape[0], x.shape[2])
        with torch.no_grad():
            if shape not in self.steps:
                while len(self.steps) >= LENGTHS:
                    del self.steps[next(iter(self.steps))]
                self.steps[shape] = _Step(model, x.shape[2])
            step = self.steps[shape]
            step.folded.update(model)
            losses = step.forward(x, mass)
            step.backward()
            for name, gradient in step.gradients(model).items():
                model.get_parameter(name).grad = gradient
        return losses


class _Step:
    """The arrays of a step."""

    def __init__(self, model: "StackedMaf", n_events: int) -> None:
        members, self.blocks, hidden, n = model.first_weight.shape
        self.n_features, self.n_events, self.folded = n, n_events, Folded(model)

        def new(*shape: int) -> Tensor:
            return model.first_weight.new_ones(shape)

        of_hidden, of_features = (self.blocks, members, hidden, n_events), (self.blocks, members, n, n_events)
        self.mass = new(self.blocks, members, 2, n_events)  # and 1; a copy for each block multiplies faster than a view
        self.inputs = new(self.blocks + 1, members, n + 1, n_events)  # of each block, and 1; the last is the noise
        self.x = self.inputs[:, :, :n]
        self.s_context, self.s1, self.s2 = new(*of_hidden), new(*of_hidden), new(*of_hidden)
        self.output = new(self.blocks, members, 2 * n, n_events)  # u, shift
        self.scale, self.normal, self.y = new(*of_features), new(*of_features), new(members, n, n_events)
        self.variance, self.inverse_width = new(self.blocks, members, n, 1), new(self.blocks, members, n, 1)
        self.d_output, self.d_a2, self.d_a1 = new(*self.output.shape), new(*of_hidden), new(*of_hidden)
        self.d_hidden, self.d_x = new(*of_hidden[1:]), new(members, n, n_events)
        self.d_weight = new(*self.folded.hidden.shape)  # of the hidden layer; taken while its factors are in the cache
        self.sum_z, self.sum_normal_z = new(*self.variance.shape), new(*self.variance.shape)
        self.into = {name: torch.empty_like(weight) for name, weight in model.named_parameters()}

    def forward(self, x: Tensor, mass: Tensor) -> Tensor:
        """The sum of each member's losses; what the gradient needs stays in the arrays."""
        folded, n, n_events = self.folded, self.n_features, self.n_events
        self.mass[:, :, :1] = mass
        self.x[0].copy_(x)
        torch.matmul(folded.context, self.mass, out=self.s_context).sigmoid_()
        scales, biases = folded.norm_scale.flip(2), folded.norm_bias.flip(2)
        for block in range(self.blocks):
            s1, s2, output, normal = self.s1[block], self.s2[block], self.output[block], self.normal[block]
            torch.baddbmm(self.s_context[block], folded.first[block], self.inputs[block], beta=4, alpha=2, out=s1)
            torch.baddbmm(folded.hidden_bias[block], folded.hidden[block], s1.sigmoid_(), alpha=4, out=s2)
            torch.baddbmm(folded.last_bias[block], folded.last[block], s2.sigmoid_(), alpha=2, out=output)
            scale = torch.add(F.softplus(output[:, :n]), MIN_SCALE, out=self.scale[block])
            y = torch.addcmul(output[:, n:], scale, self.x[block], out=self.y)
            torch.sub(y, y.mean(2, keepdim=True), out=normal)
            variance = torch.sum(normal * normal, 2, keepdim=True, out=self.variance[block])
            variance.mul_(1 / (n_events - 1)).add_(BATCH_NORM_EPS)
            normal.mul_(torch.rsqrt(variance, out=self.inverse_width[block]))
            torch.addcmul(biases[block], normal.flip(1), scales[block], out=self.x[block + 1])
        noise = self.x[-1]
        norm = 0.5 * self.variance.log() - folded.norm_scale.log()
        norm = norm.sum((0, 2, 3)) + 0.5 * self.n_features * math.log(2 * math.pi)
        return 0.5 * (noise * noise).sum((1, 2)) - self.scale.log().sum((0, 2, 3)) + n_events * norm

    def backward(self) -> None:
        """From the noise back to the features: the gradients of what every layer puts out."""
        folded, n, n_events = self.folded, self.n_features, self.n_events
        slope = torch.sigmoid(self.output[:, :, :n])  # d scale / d u
        x_slope = self.x[:-1] * slope
        of_scale = slope.div_(self.scale).mul_(-1 / n_events)  # of the log-Jacobian
        ratio = folded.norm_scale * self.inverse_width
        d_x = self.x[-1] * (1 / n_events)
        for block in reversed(range(self.blocks)):
            normal, d_output = self.normal[block], self.d_output[block]
            d_z = d_x.flip(1)
            sum_z = torch.sum(d_z, 2, keepdim=True, out=self.sum_z[block])
            sum_normal_z = torch.sum(d_z * normal, 2, keepdim=True, out=self.sum_normal_z[block])
            d_y = torch.addcmul(ratio[block] * sum_z * (-1 / n_events), d_z, ratio[block], out=d_output[:, n:])
            of_width = (self.inverse_width[block] - ratio[block] * sum_normal_z) * (1 / (n_events - 1))
            d_y.addcmul_(normal, of_width)
            torch.addcmul(of_scale[block], d_y, x_slope[block], out=d_output[:, :n])
            torch.bmm(folded.last[block].mT, d_output, out=self.d_hidden)
            d_a2 = _sigmoid_backward(self.d_hidden, self.s2[block], grad_input=self.d_a2[block])
            torch.bmm(d_a2, self.s1[block].mT, out=self.d_weight[block])
            torch.bmm(folded.hidden[block].mT, d_a2, out=self.d_hidden)
            d_a1 = _sigmoid_backward(self.d_hidden, self.s1[block], grad_input=self.d_a1[block])
            if block:
                d_x = torch.mul(d_y, self.scale[block], out=self.d_x)
                d_x.baddbmm_(folded.first[block, ..., :n].mT, d_a1, alpha=16)

    def gradients(self, model: "StackedMaf") -> dict[str, Tensor]:
        """Of the weights of the model, by name. To be called once, after `backward`."""
        n, into = self.n_features, self.into
        first = _swapped(self.d_a1 @ self.inputs[:-1].mT)
        torch.mul(first[..., :n], 16 * model.first_mask, out=into["first_weight"])
        torch.mul(first[..., n], 16, out=into["first_bias"])
        summed = _swapped(self.d_a2.sum(3))
        torch.mul(summed, 4, out=into["hidden_bias"])
        hidden = torch.sub(_swapped(self.d_weight), summed[..., None], alpha=0.5, out=into["hidden_weight"])
        hidden.mul_(8 * model.hidden_mask)
        summed = self.d_output.sum(3)
        last = (self.d_output @ self.s2.mT).sub_(summed[..., None], alpha=0.5)
        into["last_bias"].copy_(_swapped(_regrouped(summed, 2)))
        into["last_weight"].copy_(_swapped(_regrouped(last, 2)))
        into["last_weight"].mul_(2 * model.last_mask)
        _sigmoid_backward(self.d_a1, self.s_context, grad_input=self.d_a1)
        context = _swapped(self.d_a1 @ self.mass.mT)
        torch.mul(context[..., :1], 64, out=into["context_weight"])
        torch.mul(context[..., 1], 64, out=into["context_bias"])
        into["norm_bias"].copy_(_swapped(self.sum_z)[..., 0])
        of_scale = _swapped(self.sum_normal_z - self.folded.norm_scale.reciprocal())[..., 0]
        torch.mul(torch.sigmoid(model.norm_weight), of_scale, out=into["norm_weight"])
        return into


def _swapped(values: Tensor) -> Tensor:
    """With the first two axes, members and blocks, exchanged."""
    return values.transpose(0, 1)


def _regrouped(values: Tensor, n: int) -> Tensor:
    """With the outputs of a last layer, third axis, in the other order: n pairs as a pair of n and back (n = 2)."""
    blocks, members, outputs = values.shape[:3]
    pairs = values.reshape(blocks, members, n, outputs // n, *values.shape[3:])
    return pairs.transpose(2, 3).reshape(values.shape)
