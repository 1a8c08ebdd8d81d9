"""Gradients of a training step, taken by autograd: what a kind of flow has where nothing faster was written."""

from typing import Any

from torch import Tensor


class ByAutograd:
    """A stack of networks whose `loss` autograd differentiates."""

    def differentiate(self: Any, x: Tensor, mass: Tensor, noise: Tensor | None = None) -> Tensor:
        """Put the gradient of the sum of the members' mean losses into the weights' `grad`.

        Arguments as in `loss`. Returns the sum of the losses of each member [nats], (members,).
        """
        self.zero_grad()
        losses: Any = self.loss(x, mass, noise)
        losses.mean(dim=1).sum().backward()
        summed: Tensor = losses.detach().sum(dim=1)
        return summed
