"""Training of the flow ensemble against five plain nflows trainings one after the other; sampling of 1,000,000 events.

Both sides see the same events, the size of the published OS sidebands, with the same splits, batch orders and initial
states, so their validation losses agree, and that is checked. Run: python -m tests.benchmarks.flows [epochs]
"""

import os
import resource
import sys
import time

import numpy as np
import torch

from dimuon.background.estimators import flows
from dimuon.background.flow_ensemble import MODELS, FlowEnsemble
from dimuon.background.maf import reference_flow
from dimuon.background.training import _batches
from dimuon.random import Stream
from dimuon.workflow import executor
from tests.benchmarks.common import save

N_EVENTS = 10_640  # the published OS sidebands: 8,512 to train, 2,128 to validate
SEED = 1
SAME_LOSS = 0.01  # nats, of the lowest validation losses, mean over the members


def toy():
    """(n_events, 3) features that follow the mass, and the mass, both scaled."""
    random = np.random.default_rng(SEED)
    mass = random.standard_normal(N_EVENTS)
    x = random.standard_normal((N_EVENTS, 3))
    x[:, 0] += 0.4 * mass
    x[:, 1:] += 0.5 * np.tanh(2 * x[:, :1])
    return x.astype(np.float32), mass.astype(np.float32)


def plain_flow(settings, n_features, seed):
    """An untrained nflows flow of the kind."""
    if settings.kind == "maf":
        torch.manual_seed(seed)
        return reference_flow(n_features, settings.hidden, settings.blocks)
    return MODELS[settings.kind].reference_flow(n_features, settings, seed)


def plain_training(x, mass, settings, member):
    """One nflows flow, a loop, batch 256; returns the lowest validation loss."""
    flow = plain_flow(settings, x.shape[1], Stream(SEED).child("member", member, "initial").integer())
    optimizer = torch.optim.Adam(flow.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    order = Stream(SEED).child("member", member, "split").generator().permutation(len(mass))
    n_validation = round(settings.validation_fraction * len(mass))
    x, mass = torch.tensor(x[order]), torch.tensor(mass[order])[:, None]
    validation, train = (x[:n_validation], mass[:n_validation]), (x[n_validation:], mass[n_validation:])
    best = np.inf
    for epoch in range(1, settings.epochs + 1):
        flow.train()
        order = Stream(SEED).child("member", member, "epoch", epoch).generator().permutation(len(train[0]))
        order = torch.tensor(order)
        for batch in _batches(len(order), settings.batch_size):
            optimizer.zero_grad()
            loss = -flow.log_prob(train[0][order[batch]], train[1][order[batch]]).mean()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            flow.log_prob(*train)  # batch norm statistics of the whole training set
            flow.eval()
            best = min(best, -flow.log_prob(*validation).mean().item())
    return best


def compare_training(x, mass, name, settings):
    """Figures of the ensemble and of the plain trainings: seconds per epoch of all five members."""
    n_epochs = settings.epochs
    with executor.executor(os.cpu_count()) as pool:
        warm = settings.model_copy(update={"epochs": 1})
        FlowEnsemble(warm).fit(x[:600], mass[:600], Stream(SEED), pool)  # the workers are started
        start = time.perf_counter()
        ensemble = FlowEnsemble(settings).fit(x, mass, Stream(SEED), pool)
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    plain = np.mean([plain_training(x, mass, settings, member) for member in range(settings.members)])
    peer_seconds = time.perf_counter() - start
    difference = float(np.nanmin(ensemble.losses[..., 1], axis=1).mean() - plain)
    if not abs(difference) < SAME_LOSS:
        raise SystemExit(f"the validation losses differ by {difference:g} nats: these are not the same trainings")
    return ensemble, [
        {
            "name": f"train_{name}_vs_sequential", "value": seconds / n_epochs, "unit": "s/epoch",
            "peer": f"five plain nflows trainings, {peer_seconds / n_epochs:.3g} s/epoch",
            "ratio": peer_seconds / seconds,
        },
        {"name": f"validation_loss_{name}_minus_plain", "value": difference, "unit": "nats"},
    ]  # fmt: skip


def sampling(ensemble):
    """Time of sampling 1,000,000 events, and the memory that takes beyond 100,000."""
    mass = np.random.default_rng(SEED).standard_normal(1_000_000)
    ensemble.sample(mass[:100_000], Stream(SEED))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ensemble.sample(mass, Stream(SEED))
    seconds = time.perf_counter() - start
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return [
        {"name": "sample_1M_s", "value": seconds, "unit": "s"},
        {"name": "sample_1M_memory_growth", "value": growth, "unit": "MB"},
    ]


def main():
    n_epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    x, mass = toy()
    _, small = compare_training(x, mass, 20, flows.Maf(hidden=20, epochs=2 * n_epochs))
    ensemble, large = compare_training(x, mass, 128, flows.Maf(hidden=128, epochs=n_epochs))
    figures = [*large, *small, *sampling(ensemble)]
    for kind in (flows.SplineAutoregressive, flows.SplineCoupling):  # as large as the recommended one
        settings = kind(hidden=64, blocks=3, epochs=n_epochs)
        figures += compare_training(x, mass, settings.kind, settings)[1]
    save("flows", figures)


if __name__ == "__main__":
    main()
