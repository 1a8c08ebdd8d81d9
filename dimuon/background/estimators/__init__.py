"""The kinds of background estimator, one file for each family: its settings, and how it is made (see `protocol`)."""
