"""What is said under each figure of the report: what is seen, and how to read it."""

CAPTIONS = {
    "mass_cathode": (
        "Dimuon mass after cuts on the classifier, one colour and marker per false-positive rate (FPR: the "
        "fraction of sideband events kept). The dashed curve ({model}) is fitted to the sidebands alone, outside "
        "the two vertical lines, and interpolated between them; its band there is the error of the fit. A resonance "
        "stands above the dashed line between the vertical lines and nowhere else. Below, the pulls after each "
        "cut: signed square root of the Poisson deviance, grey within one. (!) marks cuts after which too few "
        "events are left for the asymptotic significance."
    ),
    "mass_likelihood": (
        "Dimuon mass with every event weighted by its estimated signal-to-background likelihood ratio. The dashed "
        "curve ({model}) is fitted to the sidebands alone and interpolated between the vertical lines; the band is its "
        "error."
    ),
    "p_values": (
        "Local p-value (left) and significance (right) of the excess in the signal region against the fraction of "
        "sideband events kept: for the classifier, for a cut on each feature alone and for a random cut. Lower is "
        "more significant. Open markers: too few events for the asymptotic formula; stars are then "
        "from toys, arrows only bounds by them. Horizontal lines: the "
        "likelihood-reweighted value and, where toys were run, the best cut corrected for the cuts scanned."
    ),
    "features": (
        "What the classifier keeps: the features of the events in the signal region after each cut. Dashed: "
        "before the anti-isolation cut, where those events are known."
    ),
    "variations": (
        "p-value of the classifier cut against the false-positive rate for polynomials of other degrees and "
        "bin widths; the analysis's own choice ({model}) is bold and black. Curves that agree say that the fit is not "
        "what makes the excess."
    ),
    "flow_losses": (
        "Mean negative log-density of the sideband events that the flows were trained on (dotted) and of those "
        "held out, epoch by epoch. The circle is the state kept, that of the lowest validation loss. A validation "
        "loss that rises while the training loss falls is overtraining."
    ),
    "closure": (
        "Real dimuons (points) and events sampled from the flows (lines) in the sidebands, and their ratio below. "
        "The samples are scaled to the number of real events. Agreement here says that the flows learned what "
        "they were shown; whether they interpolate is for the shifted windows to say. Bands: the error of the sampled "
        "events; arrows: ratios beyond the axis."
    ),
    "agreement": (
        "How well a classifier tells sampled from real events in slices of the mass (AUC; 0.5 is not at all, so that "
        "points on the dashed line are perfect) and the largest distance between their distributions, feature by "
        "feature. Where windows inside the sidebands were hidden from the flows, these show what the signal region "
        "would see."
    ),
    "scores": (
        "Mean score of the classifier ensemble for the dimuons of each region and for the sampled background, each by "
        "models that never saw the event. Where the signal region (points) stands above the sampled background at "
        "high scores is what the cuts pick up; the sidebands should follow the background."
    ),
    "efficiency": (
        "Fraction of events kept by each cut on the classifier in slices of the mass, with 68 % Clopper-Pearson "
        "intervals; dashed, the working point itself. A cut that does not know the mass is flat across the "
        "sidebands; a resonance lifts the signal region alone."
    ),
    "cutflow": (
        "Events left after each step of the selection. The anti-isolated dimuons in the mass window are analysed."
    ),
    "spectrum": (
        "Mass of every muon pair in the skim, before trigger and selection, on logarithmic axes, with the "
        "resonances named."
    ),
    "convergence": (
        "Spread of the significance when the ensemble is drawn again from its members (bootstrap), against their "
        "number. Where the band no longer narrows, more members buy nothing."
    ),
    "variation_points": (
        "Significance when one choice of the analysis is changed at a time: degree and bins of the fit, edges of the "
        "signal region and of the sidebands, preprocessing, flow, seed. Vertical lines: the baseline."
    ),
    "null_distributions": (
        "How often datasets without a signal, taken through the whole chain, reach a significance: coloured, with "
        "binomial errors, against the asymptotic expectation for a single test (black). The best cut lies above the "
        "black line because many cuts were tried. Vertical lines: the data."
    ),
    "controls": (
        "Significance in samples that hold no signal, over seeds: the same-sign dimuons and windows moved into the "
        "sidebands. Filled markers are the gate: working points fixed beforehand and, on the right, the likelihood. "
        "Median and spread below one (dashed) there say that the method does not make a signal."
    ),
    "injection": (
        "Significance against the number of signal events hidden in a null dataset, for each way to look for them: "
        "medians and 68 % bands. Dotted: 3 and 5 standard deviations."
    ),
    "cut_scan": (
        "Significance after simultaneous classical cuts on the dimuon transverse momentum and on the impact parameter "
        "of both muons. In brackets: too few events for the asymptotic formula. The largest of so many is not a local "
        "significance."
    ),
    "importance": (
        "Loss of separation (AUC) between data and sampled background when one feature is shuffled among the "
        "events: the larger, the more the classifier leans on it."
    ),
}
