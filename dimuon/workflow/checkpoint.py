"""Where an interrupted training finds what it had reached: a file that is always whole."""

from dataclasses import dataclass
from pathlib import Path

from dimuon.workflow import provenance


@dataclass(frozen=True)
class FileCheckpoint:
    """A `dimuon.background.protocol.Checkpoint` in a file."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name up to the first dot: "flows_os"."""
        return self.path.name.partition(".")[0]

    def load(self) -> bytes | None:
        """The file's content, None where there is none."""
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, content: bytes) -> None:
        """Write the file, whole or not at all."""
        with provenance.atomic(self.path) as temporary:
            temporary.write_bytes(content)

    def clear(self) -> None:
        """Remove the file, where it is there."""
        self.path.unlink(missing_ok=True)

    def part(self, number: int) -> "FileCheckpoint":
        """The file beside this one: "flows_os.checkpoint.3"."""
        return FileCheckpoint(self.path.with_name(f"{self.path.name}.{number}"))
