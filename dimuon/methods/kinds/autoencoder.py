"""VAE-QR: a variational autoencoder of the background, its loss by quantile regression in the mass (CMS, 2412.03747).

An event is unlike the background where the network trained on the sidebands describes it badly; how badly is usual
depends on the mass, and a quantile regression takes that out. It departs from the CMS search in the inputs (prepared
features, not constituents of jets, hence a small network with as many latent numbers as features), in the loss that is
scored by (all of it, the divergence included), and in the regression (`dimuon.methods.quantiles`: polynomials through
counted quantiles), which is fitted to the sidebands and not to a control region.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dimuon.arrays import FloatArray
from dimuon.events import Events
from dimuon.methods.protocol import METHODS, Given, Needs, Scorer, Scores, cross_fitted
from dimuon.methods.quantiles import Quantiles
from dimuon.random import Stream

HIDDEN, EPOCHS, BATCH, LEARNING_RATE = 24, 15, 256, 5e-3
N_LOOKS = 8  # draws of the latent numbers that a loss is averaged over


@dataclass(frozen=True, eq=False)
class Vae:
    """A trained network: encoder and decoder, both with mean and log-variance for each number."""

    encoder: Any
    decoder: Any

    @classmethod
    def trained(cls, x: FloatArray, stream: Stream) -> "Vae":
        """On prepared features: (n_events, n_features)."""
        from dimuon.background.training import one_thread  # loads torch

        with one_thread():
            return cls._trained(x, stream)

    @classmethod
    def _trained(cls, x: FloatArray, stream: Stream) -> "Vae":
        import torch
        from torch import nn

        def network() -> Any:
            d = x.shape[1]
            return nn.Sequential(
                nn.Linear(d, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * d)
            )

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream.child("initial").integer())
            vae = cls(network(), network())
            generator = torch.Generator().manual_seed(stream.child("noise").integer())
        weights = [*vae.encoder.parameters(), *vae.decoder.parameters()]
        optimizer = torch.optim.Adam(weights, lr=LEARNING_RATE, fused=True)
        rng, events = stream.child("order").generator(), torch.tensor(x, dtype=torch.float32)
        for _ in range(EPOCHS):
            for batch in np.array_split(rng.permutation(len(x)), max(1, len(x) // BATCH)):
                optimizer.zero_grad()
                vae._loss(events[torch.as_tensor(batch)], generator).mean().backward()
                optimizer.step()
        return vae

    def loss(self, x: FloatArray, stream: Stream) -> FloatArray:
        """(n_events,) the negative evidence lower bound of prepared features [nats], the mean over several looks."""
        import torch

        from dimuon.background.training import one_thread

        generator = torch.Generator().manual_seed(stream.integer())
        with one_thread(), torch.no_grad():
            events = torch.tensor(x, dtype=torch.float32)
            looks = [self._loss(events, generator) for _ in range(N_LOOKS)]
            return np.asarray(torch.stack(looks).mean(dim=0).numpy(), dtype=float)

    def _loss(self, x: Any, generator: Any) -> Any:
        """(n_events,): reconstruction and divergence together."""
        import torch

        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator)
        again, log_width = self.decoder(mean + noise * (log_variance / 2).exp()).chunk(2, dim=1)
        log_width = log_width.clamp(-6, 3)
        described = ((x - again) ** 2 / log_width.exp() + log_width + np.log(2 * np.pi)) / 2
        divergence = (mean**2 + log_variance.exp() - log_variance - 1) / 2
        return (described + divergence).sum(dim=1)


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

        def train(events: Events, stream: Stream) -> Scorer:
            sidebands = events[given.window.in_sidebands(events.mass)]
            vae, looked = Vae.trained(given.prepared(sidebands), stream.child("train")), stream.child("look")
            usual = Quantiles.of(sidebands.mass, vae.loss(given.prepared(sidebands), looked))
            return lambda asked: usual.rarity(asked.mass, vae.loss(given.prepared(asked), looked))

        return Scores(*cross_fitted(given, train))


METHODS.register("vae_qr", VaeQuantiles())
