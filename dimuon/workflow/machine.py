"""What the machine around a step can refuse, each in a line; and an interrupt before a step has begun."""

import errno
import os
import re
import signal
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

from dimuon.errors import UserError

REMEDIES = {
    errno.ENOSPC: "no space left on the disk; free some, run it again",
    errno.EDQUOT: "the disk quota is used up; free some space, run it again",
    errno.EFBIG: "larger than this shell allows a file to be (ulimit -f); raise the limit, run it again",
    errno.EROFS: "cannot be written: the file system is read-only; run it in another folder",
    errno.EACCES: "permission denied; check who may read and write there, or run it in another folder",
    errno.EPERM: "not permitted; check who may read and write there, or run it in another folder",
    errno.EEXIST: "is no folder, but a file or a link that leads nowhere; move it away, or run it in another folder",
    errno.ENOTDIR: "a part of this path is no folder, but a file; move it away, or run it in another folder",
    errno.EISDIR: "is a folder where a file is needed; move it away",
    errno.ENOENT: "not found, or removed while it was at work; run it again",
    errno.ELOOP: "links that lead back to themselves; mend them",
    errno.EMFILE: "too many files are open (ulimit -n); raise the limit, run it again",
    errno.ENOMEM: "out of memory; lower execution.workers, run it again",
    errno.EPIPE: "the output was closed before the end; finished files are whole, run it again",
}
KILLED = "a worker process was killed, out of memory perhaps: lower execution.workers, run it again"


def refusal(error: BaseException) -> str | None:
    """What the machine refused, in a line; None for an error that is none of its."""
    if isinstance(error, BrokenExecutor):
        return KILLED
    if isinstance(error, MemoryError):
        return REMEDIES[errno.ENOMEM]
    if not isinstance(error, OSError):
        return None
    words = REMEDIES.get(error.errno or 0, " ".join(str(error.strerror or error).split()))
    return f"{os.fsdecode(error.filename)}: {words}" if isinstance(error.filename, (str, bytes)) else words


def require_folder(folder: Path) -> None:
    """`UserError` where a folder is none, or it, or its nearest parent, may not be written to: before work begins."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            if not place.is_dir():
                raise UserError(f"{place}: {REMEDIES[errno.EEXIST]}")
            if not os.access(place, os.W_OK | os.X_OK):
                raise UserError(f"{place}: {REMEDIES[errno.EACCES]}")
            return


def cores() -> int:
    """The cores that this process may use: fewer than the machine has where a batch system or a container says so."""
    from joblib import cpu_count

    return int(cpu_count())


def is_program() -> bool:
    """Whether one of the seven scripts, or the command, is what runs in this process, and not a library's user."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    return bool(re.fullmatch(r"0[1-7]_\w+\.py|dimuon", name)) or (name == "-m" and "dimuon" in sys.orig_argv)


def end_at_interrupt() -> None:
    """Ctrl-C while the libraries are loaded ends the program at once and in a line: nothing has begun."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: Any) -> NoReturn:
    program = Path(sys.argv[0]).name.replace("-m", "dimuon")
    os.write(2, f"{program}: interrupted before it began\n".encode())
    os._exit(1)
