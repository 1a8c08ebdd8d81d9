"""CATHODE: the background's features given the mass, learned in the sidebands, sampled in the SR (arXiv:2109.00546).

As the analysis does it, with each kind of background estimator that there is a file for in
`dimuon.background.estimators`: "cathode" takes the estimator of the configuration, the others are called by their kind
and take its settings as far as they have them. It departs from the paper in the classifiers (the analysis's own) and in
how often they are trained; the flows see all of the sidebands, as in the paper.

"cathode" and "cathode_<classifier>" differ by the kind of classifier alone: they share the very samples.
"""

from dataclasses import dataclass, replace
from typing import Any

from dimuon.background.estimators.flows import Flow
from dimuon.background.kinds import ESTIMATORS, EstimatorSettings
from dimuon.background.protocol import BackgroundModel
from dimuon.classifiers.protocol import CLASSIFIERS
from dimuon.methods.protocol import METHODS, Given, Needs, Scores, against_model, background_model

FEW = {"dense": 2}  # members of classifiers that take long
OF_ANOTHER_NAME = {"sigma": ("SIGMA", "arXiv:2410.20537")}  # kinds of estimator: title and paper


@dataclass(frozen=True)
class Cathode:
    """A background estimator and the classifiers. kind, classifier: theirs, "" for those of the configuration."""

    kind: str = ""
    classifier: str = ""
    needs: Needs = Needs.EVENTS

    @property
    def title(self) -> str:
        """With the kinds that are not those of the configuration, unless they have a name of their own."""
        kinds = [kind.replace("_", " ") for kind in (self.kind, self.classifier) if kind]
        usual = ", ".join(["CATHODE", *kinds])
        return OF_ANOTHER_NAME.get(self.kind, (usual, ""))[0]

    @property
    def paper(self) -> str:
        """Of the method."""
        return OF_ANOTHER_NAME.get(self.kind, ("", "arXiv:2109.00546"))[1]

    def learn(self, given: Given) -> BackgroundModel:
        """The background model, of this kind."""
        return background_model(given, self._settings(given.chain.estimator))

    def score(self, given: Given, learned: BackgroundModel) -> Scores:
        """SR events against what the model samples there."""
        classifier = CLASSIFIERS[self.classifier].Settings(kind=self.classifier) if self.classifier else None
        members = min(given.chain.members, FEW.get(self.classifier, given.chain.members))
        given = replace(given, chain=replace(given.chain, members=members))
        return against_model(given, learned, classifier)

    def _settings(self, configured: EstimatorSettings) -> EstimatorSettings:
        return derived(self.kind, configured) if self.kind else configured


def derived(kind: str, configured: EstimatorSettings) -> EstimatorSettings:
    """Settings of a kind. A flow, or what is made of flows, is as large and as long trained as configured."""
    if kind == configured.kind:
        return configured
    section, values = ESTIMATORS[kind], dict[str, Any](kind=kind)
    flow = _flow_of(configured) if issubclass(section, Flow) else None
    for name, field in section.model_fields.items():
        parts = field.default if isinstance(field.default, list) else [field.default]
        if parts and all(isinstance(part, EstimatorSettings) for part in parts):
            own = [derived(part.kind, configured) for part in parts]
            values[name] = own if isinstance(field.default, list) else own[0]
        elif name != "kind" and flow is not None and name in type(flow).model_fields:
            values[name] = getattr(flow, name)
    return section.model_validate(values)


def _flow_of(settings: EstimatorSettings) -> Flow | None:
    """The settings of a flow: these themselves, or the first that they are made of; None where there is none."""
    if isinstance(settings, Flow):
        return settings
    for _, value in settings:
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, EstimatorSettings) and (flow := _flow_of(part)):
                return flow
    return None


METHODS.register("cathode", Cathode())
for _kind in ESTIMATORS:
    METHODS.register(_kind, Cathode(_kind))
for _kind in CLASSIFIERS:
    METHODS.register(f"cathode_{_kind}", Cathode(classifier=_kind))
