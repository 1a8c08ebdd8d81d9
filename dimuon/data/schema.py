"""What the skim and the dimuon table hold: the one list of their columns, and of the branches they are read from."""

from dimuon import kinematics

# the columns of a muon in the skim, and the branches of NanoAOD that they come from
MUON_BRANCHES = {
    "pt": "Muon_pt",
    "eta": "Muon_eta",
    "phi": "Muon_phi",
    "charge": "Muon_charge",
    "ip3d": "Muon_ip3d",
    "dxy": "Muon_dxy",
    "dz": "Muon_dz",
    "iso03": "Muon_pfRelIso03_all",
    "iso04": "Muon_pfRelIso04_all",
    "jetiso": "Muon_jetRelIso",
}
EVENT = ("run", "luminosityBlock", "event")  # columns and branches
NUMBERS = ("n_muons", "n_jets")
MUONS = tuple(f"{muon}_{name}" for muon in ("mu0", "mu1") for name in MUON_BRANCHES)
COMPUTED = tuple(kinematics.COMPUTED)

SKIM = (*EVENT, *NUMBERS, *MUONS)  # and a flag for each trigger
DIMUONS = (*EVENT, "charge", "region", "anti_isolated", *COMPUTED, *MUONS, *NUMBERS)
MEASURED = (*COMPUTED, *MUONS, *NUMBERS)  # of the dimuon table, what a cut can be made on
