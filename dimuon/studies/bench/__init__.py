"""The bench: every method on the same events, the same folds, the same statistics (`python -m dimuon bench`)."""

from dimuon.studies.bench import products as products  # declared by being imported, as those of every study
