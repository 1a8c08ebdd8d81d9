"""The numbers of the figures as a HEPData submission: a YAML file a table, and an archive to upload."""

import contextlib
import gzip
import io
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dimuon.exports.layout import Dependent, Independent, Layout, Uncertainty
from dimuon.progress import follow

ARCHIVE = "submission.tar.gz"
DIGITS = 8  # significant ones, as in the figures' own CSV
LONGEST_NAME = 64  # HEPData's limit


@dataclass(frozen=True)
class Statement:
    """What is said of events in every measured column. qualifiers: {name: (value, unit)}.

    energies: of the collisions, in GeV as HEPData's keyword asks for; none where nobody said.
    """

    qualifiers: Mapping[str, tuple[str | float, str]] = field(default_factory=dict)
    energies: Sequence[float] = ()


@dataclass(frozen=True, eq=False)
class Entry:
    """A table of the submission. name: unique, at most `LONGEST_NAME` characters. location: where the figure stands.

    description: what is seen. source: the file that its numbers are from. statement: of its events. phrases: keywords.
    """

    name: str
    description: str
    location: str
    layout: Layout
    source: Path
    statement: Statement
    phrases: Sequence[str] = ()

    @property
    def file(self) -> str:
        """What hepdata_lib calls its YAML file."""
        return f"{self.name.lower().replace(' ', '_')}.yaml"


@dataclass(frozen=True, eq=False)
class Submission:
    """All tables. abstract: what they are of."""

    abstract: str
    entries: Sequence[Entry]

    def files(self) -> dict[str, bytes]:
        """{name: content} of the submission: submission.yaml, the tables, and all of it as `ARCHIVE`.

        The same tables give the same bytes. Needs hepdata_lib. Raises ValueError, naming the first of its complaints,
        where HEPData's own validator does not accept the archive.
        """
        import hepdata_lib

        submission = hepdata_lib.Submission()
        submission.comment = self.abstract
        with tempfile.TemporaryDirectory() as folder:
            # it leaves an archive where it is called, and prints
            with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
                submission.create_files("tables", validate=False)
                for entry in follow(self.entries, "HEPData", "tables"):
                    _table(entry).write_output("tables")
            files = {path.name: path.read_bytes() for path in sorted(Path(folder, "tables").glob("*.yaml"))}
            files[ARCHIVE] = archive(files)
            Path(folder, ARCHIVE).write_bytes(files[ARCHIVE])
            require_valid(Path(folder, ARCHIVE))
        return files


def names(wanted: Sequence[str]) -> list[str]:
    """Names of tables, short enough for HEPData and for their files unique. wanted: in the order of the tables."""
    given: list[str] = []
    for name in wanted:
        short, number = re.sub(r"[^\w.+-]+", " ", name).strip()[:LONGEST_NAME].strip(), 2
        while short.lower() in (other.lower() for other in given):
            end = f" {number}"
            short, number = f"{short[: LONGEST_NAME - len(end)].removesuffix(f' {number - 1}')}{end}", number + 1
        given.append(short)
    return given


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz of the files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)  # its date stays at 1970-01-01
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def require_valid(path: Path) -> None:
    """Check an archive as HEPData does; ValueError with its first complaint where it is not accepted."""
    from hepdata_validator.full_submission_validator import FullSubmissionValidator

    validator = FullSubmissionValidator()
    if not validator.validate(archive=str(path)):
        complaints = [f"{name}: {said.message}" for name, every in validator.get_messages().items() for said in every]
        raise ValueError(f"HEPData's validator: {complaints[0] if complaints else 'not valid'}")


def _table(entry: Entry) -> Any:
    import hepdata_lib

    table = hepdata_lib.Table(entry.name)
    table.description, table.location = entry.description, entry.location
    keywords = {"phrases": list(entry.phrases), "cmenergies": list(entry.statement.energies)}
    table.keywords = {name: values for name, values in keywords.items() if values}
    for independent in entry.layout.independents:
        table.add_variable(_independent(independent))
    for dependent in entry.layout.dependents:
        table.add_variable(_dependent(dependent, entry.statement))
    return table


def _dependent(dependent: Dependent, statement: Statement) -> Any:
    import hepdata_lib

    variable = hepdata_lib.Variable(
        dependent.term.name,
        is_independent=False,
        is_binned=False,
        units=dependent.term.unit,
        values=list(dependent.values),
        zero_uncertainties_warning=False,
    )
    variable.digits = DIGITS
    for name, value in dependent.qualifiers.items():
        variable.add_qualifier(name, value)
    for name, (stated, unit) in statement.qualifiers.items():
        variable.add_qualifier(name, stated, unit)
    for uncertainty in dependent.uncertainties:
        variable.add_uncertainty(_uncertainty(uncertainty))
    return variable


def _independent(independent: Independent) -> Any:
    import hepdata_lib

    term, values = independent.term, list(independent.values)
    variable = hepdata_lib.Variable(term.name, is_binned=independent.binned, units=term.unit, values=values)
    variable.digits = DIGITS
    return variable


def _uncertainty(uncertainty: Uncertainty) -> Any:
    import hepdata_lib

    given = hepdata_lib.Uncertainty(uncertainty.label, is_symmetric=uncertainty.symmetric)
    minus, plus = ([value or 0.0 for value in side] for side in (uncertainty.minus, uncertainty.plus))
    # hepdata_lib leaves out an error that is zero
    given.values = plus if uncertainty.symmetric else [(-low, high) for low, high in zip(minus, plus, strict=True)]
    return given
