"""A background model as bytes of a torch file: tensors, numbers, texts; the same model gives the same bytes."""

import io

from dimuon.background.kinds import ESTIMATORS
from dimuon.background.protocol import BackgroundModel
from dimuon.errors import DAMAGED, AnalysisError


def to_bytes(model: BackgroundModel) -> bytes:
    """The model as bytes."""
    import torch  # here and not above: the steps after the sampling need not wait for it

    buffer = io.BytesIO()
    torch.save({"kind": model.kind, **model.state()}, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> BackgroundModel:
    """What `to_bytes` gave. Raises ValueError where it is not that, or was written by an earlier version."""
    from dimuon.background.training import load_tensors  # loads torch

    state = load_tensors(content)
    if not isinstance(state, dict) or "kind" not in state:
        raise ValueError("written by an earlier version, without the kind of its estimator")
    if not isinstance(state["kind"], str) or state["kind"] not in ESTIMATORS:
        raise ValueError(f"a model of kind {state['kind']!r}, which is none of {', '.join(ESTIMATORS)}")
    try:
        return ESTIMATORS[state["kind"]].restored(state)
    except AnalysisError:  # whole, but not for this machine
        raise
    except DAMAGED as error:
        raise ValueError(f"not a whole model of kind {state['kind']} ({type(error).__name__})") from error
