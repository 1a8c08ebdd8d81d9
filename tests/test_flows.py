"""Density estimators: the density is one, its inverse is its samples, the stack is nflows, training repeats itself."""

import itertools

import numpy as np
import pytest
import torch
from nflows.transforms.normalization import BatchNorm

from dimuon.background import flow_ensemble, training
from dimuon.background.autograd import ByAutograd
from dimuon.background.estimators import flows
from dimuon.background.flow_ensemble import FlowEnsemble
from dimuon.background.maf import PARAMETERS, StackedMaf, reference_flow
from dimuon.background.rational_quadratic import BOUND
from dimuon.background.splines import SplineAutoregressive, SplineCoupling
from dimuon.errors import AnalysisError
from dimuon.random import Stream
from dimuon.workflow import executor
from dimuon.workflow.checkpoint import FileCheckpoint

KINDS = {
    "maf": flows.Maf(members=2, hidden=16, blocks=3, epochs=2),
    "spline_autoregressive": flows.SplineAutoregressive(members=2, hidden=8, blocks=2, bins=4, epochs=2),
    "spline_coupling": flows.SplineCoupling(members=2, hidden=8, blocks=3, bins=4, epochs=2),
    "flow_matching": flows.FlowMatching(members=2, hidden=16, blocks=2, epochs=2, ode_steps=8),
}


def toy(n_events, n_features=2, seed=0):
    """Features that follow the mass, bent and correlated; the mass standard normal."""
    random = np.random.default_rng(seed)
    mass = random.standard_normal(n_events)
    x = random.standard_normal((n_events, n_features))
    x[:, 0] = 0.7 * x[:, 0] + 0.5 * mass
    x[:, -1] = 0.6 * x[:, -1] + 0.4 * x[:, 0] ** 2 - 0.4
    return x, mass


def perturbed(estimator, seed=3):
    """Random parameters, so that nothing is tested at an identity."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in estimator.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=random)
    return estimator


@pytest.fixture(scope="module")
def trained():
    """One small estimator of each kind on a two-dimensional toy, with perturbed parameters."""
    x, mass = toy(700)
    return {kind: perturbed(FlowEnsemble(settings).fit(x, mass, Stream(5))) for kind, settings in KINDS.items()}


def random_members(n_features=3, hidden=20, blocks=6, members=3):
    """nflows flows with random parameters and batch norm statistics of random events."""
    torch.manual_seed(11)
    members = [reference_flow(n_features, hidden, blocks) for _ in range(members)]
    for flow in members:
        for parameter in flow.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        flow.train()
        flow.log_prob(torch.randn(500, n_features), torch.randn(500, 1))
        flow.eval()
    return members


@pytest.mark.slow
@pytest.mark.parametrize(("n_features", "hidden"), [(3, 20), (3, 128), (4, 32), (1, 16)])
@torch.no_grad()
def test_stack_agrees_with_nflows(n_features, hidden):
    members = random_members(n_features, hidden)
    stack = StackedMaf(members).eval()
    x, mass = torch.randn(3, n_features, 400), torch.randn(3, 1, 400)
    expected = torch.stack([flow.log_prob(x[i].T, mass[i].T) for i, flow in enumerate(members)])
    # 1e-5 is float32 rounding through six blocks of log-densities around -5
    torch.testing.assert_close(stack.log_prob(x, mass), expected, atol=1e-5, rtol=1e-5)
    handed_back = stack.nflows_flows()
    again = torch.stack([flow.log_prob(x[i].T, mass[i].T) for i, flow in enumerate(handed_back)])
    assert torch.equal(again, expected)
    noise = torch.randn(3, n_features, 400)
    inverse = torch.stack([flow._transform.inverse(noise[i].T, mass[i].T)[0].T for i, flow in enumerate(members)])
    torch.testing.assert_close(stack.from_noise(noise, mass), inverse, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [SplineAutoregressive, SplineCoupling])
@pytest.mark.parametrize(("n_features", "hidden"), [(3, 20), (2, 16), (4, 32)])
def test_a_stack_of_splines_agrees_with_nflows(kind, n_features, hidden):
    """In log-density, gradient and samples, beyond the ends of the splines too, far from the parameters at the start.

    In float64, to ten digits: steep splines lose most of those of float32 in either.
    """
    settings = flows.SplineCoupling(hidden=hidden, blocks=3)
    members = [kind.reference_flow(n_features, settings, seed).double() for seed in (1, 2)]
    random = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    for flow in members:
        for parameter in flow.parameters():
            parameter.data += 0.1 * normal(*parameter.shape)
    stack = kind(members, n_features, settings.bins)
    x, mass, noise = 4 * normal(2, n_features, 300), normal(2, 1, 300), 4 * normal(2, n_features, 300)
    assert (x.abs() > BOUND).any()
    stack.differentiate(x, mass)
    log_prob, samples = stack.log_prob(x, mass), stack.from_noise(noise, mass)
    for i, flow in enumerate(members):
        expected = flow.log_prob(x[i].T, mass[i].T)
        torch.testing.assert_close(log_prob[i], expected, atol=1e-10, rtol=1e-10)
        (-expected).mean().backward()
        for name, parameter in flow.named_parameters():
            gradient, largest = stack.get_parameter(name.replace(".", "__")).grad[i], float(parameter.grad.abs().max())
            torch.testing.assert_close(gradient, parameter.grad, atol=1e-9 * largest, rtol=0, msg=name)
        inverse, _ = flow._transform.inverse(noise[i].T, mass[i].T)
        torch.testing.assert_close(samples[i], inverse.T, atol=1e-9, rtol=1e-9)


def test_loss_and_gradients_in_training_agree_with_nflows():
    """In training mode, where batch norm takes the batch's mean and variance and is differentiated through them."""
    members = random_members(members=2)
    stack = StackedMaf(members).train()
    x, mass = torch.randn(2, 3, 256), torch.randn(2, 1, 256)
    losses = stack.loss(x, mass).mean(dim=1)
    losses.sum().backward()
    with torch.no_grad():
        for name in PARAMETERS:  # the gradients take the places of the parameters and go the same way back
            getattr(stack, name).copy_(getattr(stack, name).grad)
    gradients = [dict(flow.named_parameters()) for flow in stack.nflows_flows()]
    for i, flow in enumerate(members):
        loss = -flow.train().log_prob(x[i].T, mass[i].T).mean()
        loss.backward()
        assert losses[i].item() == pytest.approx(loss.item(), abs=1e-5)
        for name, value in flow.named_parameters():
            torch.testing.assert_close(gradients[i][name].data, value.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("n_features", "hidden"), [(3, 20), (4, 32), (1, 16)])
def test_the_gradient_written_out_is_that_of_autograd(n_features, hidden):
    """Weights far from where they start, batches of two sizes in turn, a stack that loses a member."""
    stack = StackedMaf(random_members(n_features, hidden)).train()
    for members, n_events in ((3, 256), (3, 40), (3, 256), (2, 40)):
        for parameter in stack.parameters():
            parameter.data = parameter.data[:members]
        x, mass = torch.randn(members, n_features, n_events), torch.randn(members, 1, n_events)
        losses = ByAutograd.differentiate(stack, x, mass)
        gradients = {name: parameter.grad.clone() for name, parameter in stack.named_parameters()}
        torch.testing.assert_close(stack.differentiate(x, mass), losses, atol=0, rtol=1e-5)
        for name, parameter in stack.named_parameters():
            # float32 rounding in sums over some hundred events, relative to the largest of the tensor
            largest = float(gradients[name].abs().max())
            torch.testing.assert_close(parameter.grad, gradients[name], atol=3e-5 * largest, rtol=0, msg=name)


def test_training_with_the_gradient_written_out_is_the_training_by_autograd():
    """To 1e-4 nats in every loss of every epoch, and to the same best epochs."""
    x, mass = toy(1500, 3, seed=2)
    settings = KINDS["maf"].model_copy(update={"epochs": 8, "members": 3})
    arguments = (settings, x.astype("f4"), mass.astype("f4"), Stream(1), [0, 1, 2])
    written_out = training.train_stack(StackedMaf, *arguments)
    by_autograd = training.train_stack(ReadableMaf, *arguments)
    np.testing.assert_allclose(written_out.losses, by_autograd.losses, atol=1e-4, rtol=0)
    assert np.array_equal(written_out.best_epoch, by_autograd.best_epoch)


class ReadableMaf(StackedMaf):
    """Flows whose gradient autograd takes, and whose losses come from the form that is read."""

    differentiate = ByAutograd.differentiate

    def loss(self, x, mass, noise=None):
        with torch.enable_grad():
            return super().loss(x, mass)


def test_batch_norm_statistics_are_those_of_the_whole_training_set():
    members = random_members(members=2)
    stack = StackedMaf(members)
    x, mass = torch.randn(2, 3, 2500) * 1.3 + 0.2, torch.randn(2, 1, 2500)
    stack.finish_epoch(x, mass)
    for i, flow in enumerate(members):
        with torch.no_grad():
            flow.train().log_prob(x[i].T, mass[i].T)
        norms = [part for part in flow.modules() if isinstance(part, BatchNorm)]
        expected_mean = torch.stack([norm.running_mean for norm in norms])
        expected_variance = torch.stack([norm.running_var for norm in norms])
        torch.testing.assert_close(stack.norm_mean[i], expected_mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(stack.norm_variance[i], expected_variance, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(trained, kind):
    axis = np.linspace(-8, 8, 201)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for mass in (-1.0, 0.5):
        density = np.exp(trained[kind].log_prob(x, np.full(len(x), mass)))
        # midpoint sum over 16 x 16 standard deviations in steps of 0.08; flow matching has its integration steps too
        assert density.sum() * 0.08**2 == pytest.approx(1, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sampling_inverts_the_density(trained, kind):
    """For noise z and sample x: log p(x) = log N(z) - log |det dx/dz|, the determinant by autograd."""
    model = trained[kind].model
    noise, mass = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1)), torch.full((2, 1, 5), 0.3)
    x = model.from_noise(noise, mass).detach()
    log_prob = model.log_prob(x, mass).detach()
    for member, event in itertools.product(range(2), range(5)):

        def one(z, member=member, event=event):
            full = noise.clone()
            full[member, :, event] = z
            return model.from_noise(full, mass)[member, :, event]

        matrix = torch.autograd.functional.jacobian(one, noise[member, :, event])
        normal = -0.5 * noise[member, :, event].square().sum() - np.log(2 * np.pi)
        expected = normal - torch.linalg.slogdet(matrix).logabsdet
        assert log_prob[member, event].item() == pytest.approx(expected.item(), abs=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_ensemble_is_the_mean_density_and_samples_in_equal_shares(trained, kind):
    estimator = trained[kind]
    x, mass = toy(50, seed=9)
    mean = np.log(np.exp(estimator.member_log_prob(x, mass)).mean(axis=0))
    np.testing.assert_allclose(estimator.log_prob(x, mass), mean, rtol=1e-6)
    assert np.bincount(estimator.member_of(1001)).tolist() == [501, 500]
    assert estimator.sample(np.zeros(1001), Stream(1)).shape == (1001, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_state_is_the_same_estimator(trained, kind):
    estimator = trained[kind]
    again = FlowEnsemble.from_state(estimator.state(), estimator.settings)
    mass = np.linspace(-1, 1, 101)
    assert np.array_equal(again.sample(mass, Stream(4)), estimator.sample(mass, Stream(4)))
    assert np.array_equal(again.best_epoch, estimator.best_epoch)


@pytest.mark.slow
def test_learns_a_known_density():
    """A conditional Gaussian: the mean log-density must come close to the true one."""
    random = np.random.default_rng(4)
    mass = random.standard_normal(4000)
    noise = random.standard_normal((4000, 2))
    x = np.column_stack([0.8 * mass + 0.6 * noise[:, 0], 0.5 * noise[:, 0] + 0.5 * noise[:, 1] * np.exp(0.3 * mass)])
    truth = -np.log(2 * np.pi) - np.log(0.6 * 0.5) - 0.3 * mass - 0.5 * (noise**2).sum(axis=1)
    settings = flows.Maf(members=2, hidden=16, blocks=3, epochs=25, learning_rate=5e-3)
    estimator = FlowEnsemble(settings).fit(x, mass, Stream(1))
    gap = truth.mean() - estimator.log_prob(x, mass).mean()
    assert abs(gap) < 0.05  # nats; an untrained member is more than one away
    sampled = estimator.sample(mass, Stream(2))
    assert np.corrcoef(sampled[:, 0], mass)[0, 1] == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
def test_result_does_not_depend_on_workers():
    x, mass = toy(600)
    settings = flows.Maf(members=4, hidden=20, blocks=2, epochs=2)
    alone = FlowEnsemble(settings).fit(x, mass, Stream(7))
    with executor.executor(2) as pool:
        spread = FlowEnsemble(settings).fit(x, mass, Stream(7), pool)
    assert np.array_equal(alone.losses, spread.losses)
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, spread.model.state_dict()[name]), name


class Interrupt(Exception):
    """Stands for a power cut."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "patience"), [("maf", None), ("maf", 1), ("spline_coupling", None), ("flow_matching", 1)]
)
def test_interrupted_training_goes_on_to_the_same_result(kind, patience, tmp_path, monkeypatch):
    x, mass = toy(500)
    settings = KINDS[kind].model_copy(update={"epochs": 6, "patience": patience, "members": 3, "learning_rate": 2e-2})
    whole = FlowEnsemble(settings).fit(x, mass, Stream(3))
    run_epoch, calls = training.StackTraining.run_epoch, []

    def interrupted(self):
        if len(calls) == 2:
            raise Interrupt
        calls.append(self.epoch)
        return run_epoch(self)

    monkeypatch.setattr(training.StackTraining, "run_epoch", interrupted)
    assert np.isfinite(whole.losses[..., 0]).any(axis=0).sum() > 2  # or nothing would be interrupted
    with pytest.raises(Interrupt):
        FlowEnsemble(settings).fit(x, mass, Stream(3), checkpoint=FileCheckpoint(tmp_path / "flows.checkpoint"))
    assert [path.name for path in tmp_path.iterdir()] == ["flows.checkpoint.0"]
    monkeypatch.setattr(training.StackTraining, "run_epoch", run_epoch)
    resumed = FlowEnsemble(settings).fit(x, mass, Stream(3), checkpoint=FileCheckpoint(tmp_path / "flows.checkpoint"))
    assert np.array_equal(resumed.losses, whole.losses, equal_nan=True)
    assert np.array_equal(resumed.best_epoch, whole.best_epoch)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert not list(tmp_path.iterdir())


def test_checkpoint_of_another_training_is_not_used(tmp_path, caplog):
    x, mass = toy(500)
    settings = KINDS["maf"]
    arguments = (StackedMaf, settings, x.astype(np.float32), mass.astype(np.float32), Stream(1), [0, 1])
    other = training.StackTraining(*arguments)
    other.run_epoch()
    path = tmp_path / "flows.checkpoint.0"
    other.save(FileCheckpoint(path))
    expected = FlowEnsemble(settings).fit(x, mass, Stream(2)).losses
    with caplog.at_level("INFO", logger="dimuon"):
        got = (
            FlowEnsemble(settings)
            .fit(x, mass, Stream(2), checkpoint=FileCheckpoint(tmp_path / "flows.checkpoint"))
            .losses
        )
    assert "left by another training" in caplog.text
    assert np.array_equal(got, expected)
    path.write_bytes(b"half a file")
    assert np.array_equal(
        FlowEnsemble(settings).fit(x, mass, Stream(2), checkpoint=FileCheckpoint(path.with_suffix(""))).losses, expected
    )


def test_patience_stops_members_one_by_one():
    x, mass = toy(500)
    settings = flows.Maf(members=3, hidden=8, blocks=2, epochs=60, learning_rate=3e-2, patience=2)
    estimator = FlowEnsemble(settings).fit(x, mass, Stream(1))
    for losses, best in zip(estimator.losses[..., 1], estimator.best_epoch, strict=True):
        trained = np.flatnonzero(np.isfinite(losses)) + 1
        assert best == np.nanargmin(losses) + 1
        assert trained[-1] in (best + 2, settings.epochs)
    assert len({int(np.isfinite(losses).sum()) for losses in estimator.losses[..., 1]}) > 1


def test_best_state_is_kept():
    """The saved state gives the lowest validation loss of the history, not the last one."""
    x, mass = toy(500)
    settings = flows.Maf(members=1, hidden=8, blocks=2, epochs=12, learning_rate=5e-2)
    estimator = FlowEnsemble(settings).fit(x, mass, Stream(6))
    assert estimator.best_epoch[0] < 12
    order = Stream(6).child("member", 0, "split").generator().permutation(500)[:100]
    loss = -estimator.log_prob(x[order], mass[order]).mean()
    assert loss == pytest.approx(np.nanmin(estimator.losses[0, :, 1]), abs=1e-5)


def test_members_differ_in_split_and_start():
    x, mass = toy(500)
    stack = training.StackTraining(StackedMaf, KINDS["maf"], x.astype("f4"), mass.astype("f4"), Stream(1), [0, 1])
    assert not torch.equal(stack.train_x[0], stack.train_x[1])
    assert not torch.equal(stack.model.hidden_weight[0], stack.model.hidden_weight[1])
    for member in range(2):  # every event is in exactly one of the two sets
        both = torch.cat([stack.train_x[member], stack.validation_x[member]], dim=1)[0]
        assert torch.equal(both.sort().values, torch.tensor(x[:, 0].astype("f4")).sort().values)


def test_a_single_event_left_over_joins_the_batch_before():
    assert [part.stop - part.start for part in training._batches(513, 256)] == [256, 257]
    assert [part.stop - part.start for part in training._batches(514, 256)] == [256, 256, 2]
    assert [part.stop - part.start for part in training._batches(100, 256)] == [100]


def test_non_finite_loss_names_member_and_epoch():
    x, mass = toy(500)
    settings = flows.Maf(members=2, hidden=8, blocks=2, epochs=20, learning_rate=1e30)
    with pytest.raises(
        AnalysisError, match=r"flow member \d: .* loss is (nan|inf) in epoch \d+; lower the learning rate"
    ):
        FlowEnsemble(settings).fit(x, mass, Stream(1))


def test_non_finite_sample_names_member_and_epoch():
    x, mass = toy(500)
    estimator = FlowEnsemble(KINDS["maf"]).fit(x, mass, Stream(1))
    estimator.model.last_bias[1] = torch.nan
    with pytest.raises(AnalysisError, match=r"flow member 1 \(state of epoch \d\).* not finite"):
        estimator.sample(mass, Stream(1))


class Elsewhere(executor.AtOnce):
    """Stands for workers of another machine: one of them has the device. asked: for what."""

    def __init__(self):
        self.asked = []

    def where(self, able, what):
        self.asked.append((able, what))
        return self

    def submit(self, train, model, settings, *others):
        return super().submit(train, model, settings.model_copy(update={"device": "cpu"}), *others)


def test_a_device_that_only_workers_have():
    """The flows are trained there and used here, on the CPU."""
    x, mass = toy(500)
    settings = KINDS["maf"].model_copy(update={"device": "cuda:99"})
    pool = Elsewhere()
    there = FlowEnsemble(settings).fit(x, mass, Stream(1), pool)
    here = FlowEnsemble(KINDS["maf"]).fit(x, mass, Stream(1))
    assert pool.asked == [(flow_ensemble.available, "cuda:99")]
    assert (there.device, there.settings.device) == ("cpu", "cuda:99")
    np.testing.assert_array_equal(there.losses, here.losses)
    np.testing.assert_array_equal(there.log_prob(x, mass), here.log_prob(x, mass))


def test_bad_input_is_refused():
    x, mass = toy(500)
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 values of features are not finite"):
        FlowEnsemble(KINDS["maf"]).fit(x, mass, Stream(1))
    with pytest.raises(ValueError, match="must be"):
        FlowEnsemble(KINDS["maf"]).fit(x[:10], mass, Stream(1))
    with pytest.raises(AnalysisError, match="at least two features"):
        FlowEnsemble(KINDS["spline_coupling"]).fit(toy(500)[0][:, :1], mass, Stream(1))
    if not torch.cuda.is_available():
        with pytest.raises(AnalysisError, match="no such device"):
            FlowEnsemble(flows.Maf(device="cuda")).fit(*toy(500), Stream(1))
        state = FlowEnsemble(KINDS["maf"]).fit(*toy(500), Stream(1)).state()  # as from a machine that has one
        moved = FlowEnsemble.from_state(state, KINDS["maf"].model_copy(update={"device": "cuda"}))
        assert moved.device == "cpu"
        assert moved.settings.device == "cuda"
