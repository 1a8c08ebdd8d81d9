"""What a user of the results cites: the paper that is followed, the data, the methods that were used, this software."""

from collections.abc import Iterator
from dataclasses import dataclass

import dimuon
from dimuon.origin import Origin
from dimuon.workflow.config import Config

ARXIV = "https://arxiv.org/abs/"


@dataclass(frozen=True)
class Reference:
    """One work. why: what it is cited for. kind: of a BibTeX entry. year: 0 where it has none."""

    key: str
    why: str
    authors: tuple[str, ...]
    title: str
    year: int = 0
    kind: str = "article"
    journal: str = ""
    eprint: str = ""  # of arXiv
    doi: str = ""
    address: str = ""

    @property
    def url(self) -> str:
        """Where it is found."""
        by_number = f"{ARXIV}{self.eprint}" if self.eprint else ""
        return self.address or (f"https://doi.org/{self.doi}" if self.doi else by_number)

    @property
    def link(self) -> str:
        """The address as it is shown."""
        return f"doi:{self.doi}" if self.doi else f"arXiv:{self.eprint}" if self.eprint else self.address

    @property
    def text(self) -> str:
        """As in a list of references."""
        authors = ", ".join(self.authors) if len(self.authors) <= 4 else f"{self.authors[0]} et al."
        details = ", ".join(filter(None, (self.journal, str(self.year or ""))))
        return f"{authors}, “{self.title}”" + (f", {details}." if details else ".")

    @property
    def bibtex(self) -> str:
        """As an entry of a .bib file."""
        eprint = {"eprint": self.eprint, "archivePrefix": "arXiv"} if self.eprint else {}
        values = {
            "author": " and ".join(f"{{{name}}}" if " " in name and "." not in name else name for name in self.authors),
            "title": f"{{{self.title}}}",
            "journal": self.journal,
            "year": str(self.year or ""),
            "doi": self.doi,
            **eprint,
            "url": self.url,
            "note": self.why,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in values.items() if value]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


SOFTWARE = Reference(
    "dimuon",
    "this software (CITATION.cff)",
    ("The dimuon authors",),
    f"dimuon {dimuon.__version__}: the anti-isolated Upsilon in CMS 2016 open data, found by anomaly detection",
    kind="misc",
)
PAPER = Reference(
    "Gambhir:2025",
    "the analysis that is followed",
    ("R. Gambhir", "R. Mastandrea", "B. Nachman", "J. Thaler"),
    "Isolating Unisolated Upsilons with Anomaly Detection in CMS Open Data",
    2025,
    eprint="2502.14036",
)
CATHODE = Reference(
    "Hallin:2021wme",
    "the method, CATHODE",
    ("A. Hallin", "J. Isaacson", "G. Kasieczka", "C. Krause", "B. Nachman", "T. Quadfasel", "M. Schlaffer", "D. Shih",
     "M. Sommerhalder"),
    "Classifying Anomalies THrough Outer Density Estimation (CATHODE)",
    2022,
    journal="Phys. Rev. D 106, 055006",
    eprint="2109.00546",
)  # fmt: skip
ASYMPTOTIC = Reference(
    "Cowan:2010js",
    "the test for an excess",
    ("G. Cowan", "K. Cranmer", "E. Gross", "O. Vitells"),
    "Asymptotic formulae for likelihood-based tests of new physics",
    2011,
    journal="Eur. Phys. J. C 71, 1554",
    eprint="1007.1727",
)
WEIGHTED = Reference(
    "Bohm:2013gla",
    "weighted counts, of the likelihood reweighting",
    ("G. Bohm", "G. Zech"),
    "Statistics of weighted Poisson events and its applications",
    2014,
    journal="Nucl. Instrum. Meth. A 748, 1",
    eprint="1309.1287",
)
PEAKS = Reference(
    "Vitells:2011bb",
    "how many peaks there are",
    ("O. Vitells", "E. Gross"),
    "Estimating the significance of a signal in a multi-dimensional search",
    2011,
    journal="Astropart. Phys. 35, 230",
    eprint="1105.4355",
)
DISTANCE = Reference(
    "Szekely:2007",
    "the dependence of the score on the mass",
    ("G. J. Szekely", "M. L. Rizzo", "N. K. Bakirov"),
    "Measuring and testing dependence by correlation of distances",
    2007,
    journal="Ann. Statist. 35, 2769",
    eprint="0803.4101",
)
PROFILING = Reference(
    "Dauncey:2014xga",
    "the choice of the background function",
    ("P. D. Dauncey", "M. Kenzie", "N. Wardle", "G. J. Davies"),
    "Handling uncertainties in background shapes: the discrete profiling method",
    2015,
    journal="JINST 10, P04015",
    eprint="1408.6865",
)
ESTIMATORS = {
    "maf": Reference(
        "Papamakarios:2017",
        "the background model",
        ("G. Papamakarios", "T. Pavlakou", "I. Murray"),
        "Masked Autoregressive Flow for Density Estimation",
        2017,
        journal="NeurIPS 30",
        eprint="1705.07057",
    ),
    "spline": Reference(
        "Durkan:2019nsq",
        "the background model",
        ("C. Durkan", "A. Bekasov", "I. Murray", "G. Papamakarios"),
        "Neural Spline Flows",
        2019,
        journal="NeurIPS 32",
        eprint="1906.04032",
    ),
    "flow_matching": Reference(
        "Lipman:2022",
        "the background model",
        ("Y. Lipman", "R. T. Q. Chen", "H. Ben-Hamu", "M. Nickel", "M. Le"),
        "Flow Matching for Generative Modeling",
        2023,
        journal="ICLR 2023",
        eprint="2210.02747",
    ),
    "sigma": Reference(
        "Das:2024fwo",
        "the background model",
        ("R. Das", "D. Shih"),
        "SIGMA: Single Interpolated Generative Model for Anomalies",
        2024,
        eprint="2410.20537",
    ),
    "reweighting": Reference(
        "Andreassen:2020nkr",
        "the background model",
        ("A. Andreassen", "B. Nachman", "D. Shih"),
        "Simulation Assisted Likelihood-free Anomaly Detection",
        2020,
        journal="Phys. Rev. D 101, 095004",
        eprint="2001.05001",
    ),
}
CLASSIFIERS = {
    "xgboost": Reference(
        "Chen:2016btl",
        "the classifier",
        ("T. Chen", "C. Guestrin"),
        "XGBoost: A Scalable Tree Boosting System",
        2016,
        journal="Proc. 22nd ACM SIGKDD, 785",
        eprint="1603.02754",
    ),
    "hist_gradient_boosting": Reference(
        "scikit-learn",
        "the classifier",
        ("F. Pedregosa", "others"),
        "Scikit-learn: Machine Learning in Python",
        2011,
        journal="J. Mach. Learn. Res. 12, 2825",
        eprint="1201.0490",
    ),
}
RECORDS = {
    30555: Reference(
        "CMS:DoubleMuon2016H",
        "the data (CC0)",
        ("CMS Collaboration",),
        "DoubleMuon primary dataset in NANOAOD format from RunH of 2016",
        2024,
        kind="misc",
        doi="10.7483/OPENDATA.CMS.UZD7.Z50M",
    )
}
PUBLISHED_SKIM = Reference(
    "dimuonAD:skim",
    "the data, as the authors of the analysis skimmed them",
    PAPER.authors,
    "Published skim of dimuonAD",
    2025,
    kind="misc",
    doi="10.5281/zenodo.14618719",
    address="https://zenodo.org/records/14618719",
)


def of(config: Config, origin: Origin) -> list[Reference]:
    """What the results of a configuration rest on, in the order of the analysis; this software last."""
    return list(dict.fromkeys([PAPER, *_data(config, origin), *_methods(config), SOFTWARE]))


def bibliography(listed: list[Reference]) -> str:
    """The text of a .bib file."""
    return "\n\n".join(reference.bibtex for reference in listed) + "\n"


def _data(config: Config, origin: Origin) -> Iterator[Reference]:
    """Where the events come from; nothing for a toy."""
    given = config.input
    if given.simulation is not None:
        return
    number = given.record or (given.table.record if given.table is not None else None)
    if number is not None:
        portal = Reference(
            f"opendata:{number}",
            "the data",
            (origin.experiment or "CERN Open Data",),
            f"Record {number} of the CERN Open Data portal",
            kind="misc",
            address=f"{given.portal}/record/{number}",
        )
        yield RECORDS.get(number, portal)
    if given.published_skim is not None:
        yield PUBLISHED_SKIM


def _methods(config: Config) -> Iterator[Reference]:
    if config.input.scores is None:
        yield CATHODE
        kind = "spline" if config.estimator.kind.startswith("spline") else config.estimator.kind
        if kind in ESTIMATORS:
            yield ESTIMATORS[kind]
        if config.bdt.classifier.kind in CLASSIFIERS:
            yield CLASSIFIERS[config.bdt.classifier.kind]
        yield DISTANCE
    yield from (ASYMPTOTIC, WEIGHTED, PEAKS)
    if config.significance.choice == "envelope":
        yield PROFILING
