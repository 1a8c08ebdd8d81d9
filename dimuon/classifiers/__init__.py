"""Classifiers that tell SR data from sampled background (the paper's step 3)."""
