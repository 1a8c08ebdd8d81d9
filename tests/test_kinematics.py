"""Dimuon kinematics against closed forms, Lorentz invariance and the published table."""

import numpy as np
import pandas as pd

from dimuon import kinematics

M = kinematics.MUON_MASS


def muons(n, seed):
    rng = np.random.default_rng(seed)
    return {
        "pt": rng.exponential(20, n) + 3,
        "eta": rng.uniform(-2.4, 2.4, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
    }


def test_mass_agrees_with_energies_and_momenta_added_by_hand():
    mu0, mu1 = muons(5000, 1), muons(5000, 2)
    momenta = [
        np.stack([mu["pt"] * np.cos(mu["phi"]), mu["pt"] * np.sin(mu["phi"]), mu["pt"] * np.sinh(mu["eta"])])
        for mu in (mu0, mu1)
    ]
    energy = sum(np.sqrt((p**2).sum(axis=0) + M**2) for p in momenta)
    total = momenta[0] + momenta[1]
    found = kinematics.dimuon(mu0, mu1)
    # E^2 - p^2 loses digits by cancellation, about 1e-16 (E/m)^2
    np.testing.assert_allclose(found["dimu_mass"], np.sqrt(energy**2 - (total**2).sum(axis=0)), rtol=1e-9)
    np.testing.assert_allclose(found["dimu_pt"], np.hypot(total[0], total[1]), rtol=1e-12)
    np.testing.assert_allclose(found["dimu_eta"], np.arcsinh(total[2] / np.hypot(total[0], total[1])), rtol=1e-9)
    np.testing.assert_allclose(found["mumu_deltapT"], mu0["pt"] - mu1["pt"])


def test_a_decay_at_rest_gives_back_its_mass():
    for mass in (0.3, 0.5479, 3.0969, 9.4604, 91.19):
        pt = np.sqrt(mass**2 / 4 - M**2)
        found = kinematics.dimuon(
            {"pt": np.array([pt]), "eta": np.zeros(1), "phi": np.zeros(1)},
            {"pt": np.array([pt]), "eta": np.zeros(1), "phi": np.full(1, np.pi)},
        )
        np.testing.assert_allclose(found["dimu_mass"], mass, rtol=1e-12)
        np.testing.assert_allclose(found["mumu_deltaR"], np.pi)


def test_mass_and_distance_do_not_change_under_rotation_and_boost_along_the_beam():
    mu0, mu1 = muons(2000, 3), muons(2000, 4)
    before = kinematics.dimuon(mu0, mu1)
    turned = [mu | {"phi": mu["phi"] + 1.3} for mu in (mu0, mu1)]
    after = kinematics.dimuon(*turned)
    np.testing.assert_allclose(after["dimu_mass"], before["dimu_mass"], rtol=1e-9)
    np.testing.assert_allclose(after["mumu_deltaR"], before["mumu_deltaR"], rtol=1e-9)

    def boosted(mu, rapidity):
        pz, energy = mu["pt"] * np.sinh(mu["eta"]), np.sqrt((mu["pt"] * np.cosh(mu["eta"])) ** 2 + M**2)
        pz = pz * np.cosh(rapidity) + energy * np.sinh(rapidity)
        return mu | {"eta": np.arcsinh(pz / mu["pt"])}

    after = kinematics.dimuon(boosted(mu0, 0.7), boosted(mu1, 0.7))
    np.testing.assert_allclose(after["dimu_mass"], before["dimu_mass"], rtol=1e-9)


def test_distance_wraps_around_in_phi():
    near = kinematics.dimuon(
        {"pt": np.array([20.0]), "eta": np.array([0.0]), "phi": np.array([3.1])},
        {"pt": np.array([10.0]), "eta": np.array([0.0]), "phi": np.array([-3.1])},
    )
    np.testing.assert_allclose(near["mumu_deltaR"], 2 * np.pi - 6.2, rtol=1e-9)


def test_same_numbers_as_the_published_sample(reference):
    """Published in single precision: where the muons are boosted, E^2 - p^2 costs up to 1e-3 of the mass."""
    table = pd.read_parquet(reference / "real" / "sr_os_before_isolation.parquet")
    found = kinematics.of_pairs(table)
    for name in ("dimu_mass", "dimu_pt", "dimu_eta", "mumu_deltaR", "mumu_deltapT"):
        if name in table:
            np.testing.assert_allclose(found[name], table[name], rtol=1e-3, atol=1e-3, err_msg=name)
    assert np.median(np.abs(found["dimu_mass"] / table["dimu_mass"] - 1)) < 1e-5
