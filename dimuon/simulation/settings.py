"""The settings of the simulation."""

from typing import Annotated, Literal

from pydantic import Field

from dimuon.settings import Positive, Section


class Simulation(Section):
    """The toy of `dimuon.simulation.nanoaod_files`, calibrated to the published data. SIMULATED wherever it shows."""

    n_files: Positive = 2
    scale: Annotated[float, Field(gt=0)] = 1.0  # 1: as many dimuons as in the published sample
    compression: Literal["zlib", "lzma", "zstd"] = "zlib"
