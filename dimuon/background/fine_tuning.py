"""Trained flows made those of other events by a few more epochs: of the sidebands of a window, its SR masked.

What the networks learned elsewhere is kept where the new events say nothing else; of what they learned in the SR alone
much is still there after many epochs. So the scan looks at them beside the SR and interpolates
(`estimators.interpolated`). The state of the lowest validation loss of these epochs is taken, never that before them;
split, orders and noise are new.
"""

from dataclasses import replace

from dimuon.background.conditional import ConditionalBackground, resolvable
from dimuon.background.flow_ensemble import MODELS, FlowEnsemble
from dimuon.background.joint_training import Sample
from dimuon.background.training import StackTraining, TrainedStack, one_thread
from dimuon.events import Events
from dimuon.random import Stream


def fine_tuned(model: ConditionalBackground, events: Events, epochs: int, stream: Stream) -> ConditionalBackground:
    """The flows after so many more epochs on other events; how features and masses are prepared stays as it was.

    Raises `AnalysisError` with fewer than 500 events, and for a loss that is not finite.
    """
    inside = resolvable(model.scaler, events)
    sample, ensemble = model.training_sample(inside, stream), FlowEnsemble(model.ensemble.settings)
    ensemble.take([_trained(model.ensemble, sample, epochs)], sample.features.shape[1])
    return replace(model, ensemble=ensemble, n_outside=len(events) - len(inside))


def _trained(ensemble: FlowEnsemble, sample: Sample, epochs: int) -> TrainedStack:
    """All members, in one stack."""
    settings = ensemble.settings.model_copy(update={"epochs": epochs, "patience": None, "device": ensemble.device})
    with one_thread():
        members = range(settings.members)
        training = StackTraining(
            MODELS[settings.kind], settings, sample.features, sample.mass, sample.stream, [*members]
        )
        training.model.load_state_dict(ensemble.model.state_dict())
        for _ in range(epochs):
            training.run_epoch()
        return training.result
