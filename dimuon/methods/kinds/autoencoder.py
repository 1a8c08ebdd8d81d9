"""VAE-QR: a variational autoencoder of the background, its loss by quantile regression in the mass (CMS, 2412.03747).

An event is unlike the background where the network trained on the sidebands describes it badly; how badly is usual
depends on the mass, and a quantile regression takes that out. It departs from the CMS search in the inputs (prepared
features, not constituents of jets, hence a small network with as many latent numbers as features), in the loss that is
scored by (all of it, the divergence included), and in the regression (`dimuon.methods.quantiles`: polynomials through
counted quantiles), which is fitted to the sidebands and not to a control region.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, jointly_cross_fitted
from dimuon.methods.quantiles import Quantiles
from dimuon.random import Stream

HIDDEN, EPOCHS, BATCH, LEARNING_RATE = 24, 15, 256, 5e-3
N_LOOKS = 8  # draws of the latent numbers that a loss is averaged over

Layers = Sequence[tuple[Any, Any]]  # tensors: weight (..., n_in, n_out) and bias (..., 1, n_out) of each


@dataclass(frozen=True, eq=False)
class Vae:
    """A trained network: encoder and decoder, both with mean and log-variance for each number.

    Of a stack of networks, every tensor has these along its first axis.
    """

    encoder: Layers
    decoder: Layers

    @classmethod
    def trained(cls, samples: Sequence[FloatArray], streams: Sequence[Stream]) -> list["Vae"]:
        """One for each sample of prepared features: (n_events, n_features) each.

        They are small, so that a stack of them takes little longer than one. Each has its own events, initial weights,
        orders and noise; an epoch of each has as many events as the smallest sample.
        """
        from dimuon.background.training import one_thread  # loads torch

        with one_thread():
            stack = cls._trained(samples, streams)
        return [cls(_nth(stack.encoder, i), _nth(stack.decoder, i)) for i in range(len(samples))]

    @classmethod
    def _trained(cls, samples: Sequence[FloatArray], streams: Sequence[Stream]) -> "Vae":
        import torch

        n_events, d = min(map(len, samples)), samples[0].shape[1]
        initial = [stream.child("initial").generator() for stream in streams]
        stack = cls(_untrained(d, initial), _untrained(d, initial))
        weights = [tensor for layer in (*stack.encoder, *stack.decoder) for tensor in layer]
        optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)
        orders, noises = ([stream.child(use).generator() for stream in streams] for use in ("order", "noise"))
        for _ in range(EPOCHS):
            chosen = [x[order.permutation(len(x))[:n_events]] for x, order in zip(samples, orders, strict=True)]
            events = torch.tensor(np.stack(chosen), dtype=torch.float32)
            noise = torch.tensor(np.stack([each.standard_normal((n_events, d), np.float32) for each in noises]))
            n_batches = max(1, n_events // BATCH)
            for x, of_batch in zip(events.tensor_split(n_batches, 1), noise.tensor_split(n_batches, 1), strict=True):
                optimizer.zero_grad()
                stack._loss(x, stack._latent(x), of_batch).mean(dim=1).sum().backward()
                optimizer.step()
        return stack

    def loss(self, x: FloatArray, stream: Stream) -> FloatArray:
        """(n_events,) the negative evidence lower bound of prepared features [nats], the mean over several looks."""
        import torch

        from dimuon.background.training import one_thread

        random = stream.generator()
        with one_thread(), torch.no_grad():
            events = torch.tensor(x, dtype=torch.float32)
            latent = self._latent(events)
            noises = (torch.tensor(random.standard_normal(x.shape, np.float32)) for _ in range(N_LOOKS))
            looks = [self._loss(events, latent, noise) for noise in noises]
            return np.asarray(torch.stack(looks).mean(dim=0).numpy(), dtype=float)

    def _latent(self, x: Any) -> tuple[Any, Any]:
        """Mean and log-variance of the latent numbers: (..., n_events, n_features) each."""
        mean, log_variance = _through(self.encoder, x).chunk(2, dim=-1)
        return mean, log_variance

    def _loss(self, x: Any, latent: tuple[Any, Any], noise: Any) -> Any:
        """(..., n_events): reconstruction and divergence together."""
        mean, log_variance = latent
        again, log_width = _through(self.decoder, mean + noise * (log_variance / 2).exp()).chunk(2, dim=-1)
        log_width = log_width.clamp(-6, 3)
        described = ((x - again) ** 2 / log_width.exp() + log_width + np.log(2 * np.pi)) / 2
        divergence = (mean**2 + log_variance.exp() - log_variance - 1) / 2
        return (described + divergence).sum(dim=-1)


def _untrained(d: int, randoms: Sequence[np.random.Generator]) -> Layers:
    """A stack of networks from d numbers to twice as many, one of each generator, as torch starts them."""
    import torch

    def uniform(n_in: int, rows: int, columns: int) -> Any:
        ends = -1 / np.sqrt(n_in), 1 / np.sqrt(n_in)
        drawn = np.stack([random.uniform(*ends, (rows, columns)) for random in randoms])
        return torch.tensor(drawn, dtype=torch.float32, requires_grad=True)

    sizes = (d, HIDDEN, HIDDEN, 2 * d)
    return [(uniform(n_in, n_in, n_out), uniform(n_in, 1, n_out)) for n_in, n_out in pairwise(sizes)]


def _nth(layers: Layers, i: int) -> Layers:
    """One of a stack of trained networks."""
    return [(weight[i].detach(), bias[i].detach()) for weight, bias in layers]


def _through(layers: Layers, x: Any) -> Any:
    """What a network makes of events: (..., n_events, n_out)."""
    for weight, bias in layers[:-1]:
        x = (x @ weight + bias).tanh()
    weight, bias = layers[-1]
    return x @ weight + bias


@dataclass(frozen=True)
class VaeQuantiles:
    """The loss of an autoencoder, flattened in the mass."""

    title: str = "VAE-QR"
    needs: Needs = Needs.EVENTS
    paper: str = "arXiv:2412.03747"

    def learn(self, given: Given) -> None:
        """Nothing that is not learned for each fold."""

    def score(self, given: Given, learned: None) -> Scores:
        """How rare the loss of an event is at its mass: -log of the chance of a larger one."""

        def scorer(sidebands: Events, x: FloatArray, vae: Vae, looked: Stream) -> Scorer:
            usual = Quantiles.of(sidebands.mass, vae.loss(x, looked))
            return lambda asked: usual.rarity(asked.mass, vae.loss(given.prepared(asked), looked))

        def train(parts: Sequence[Events], streams: Sequence[Stream]) -> list[Scorer]:
            sidebands = [events[given.window.in_sidebands(events.mass)] for events in parts]
            prepared = [given.prepared(events) for events in sidebands]
            vaes = Vae.trained(prepared, [stream.child("train") for stream in streams])
            return list(map(scorer, sidebands, prepared, vaes, [stream.child("look") for stream in streams]))

        return Scores(*jointly_cross_fitted(given, train))


METHODS.register("vae_qr", VaeQuantiles())
