"""The figures of an analysis, and the page that tells its story."""

# for the processes that draw to import once, before they start
WORKER_MODULES = (
    "dimuon.figures.drawing",
    "dimuon.figures.paper.mass_spectra",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
)
