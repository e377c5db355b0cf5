"""What is on disk after a kill at any moment: every verdict so far, and a whole archive of logs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tarfile
import time
from pathlib import Path

#: of children, which append to the same file
FILE, BEGIN, PART = "KAN_FAST_SUITE_VERDICTS", "KAN_FAST_SUITE_BEGIN", "KAN_FAST_SUITE_PART"
#: of all limits
SCALE = "KAN_FAST_SUITE_SCALE"
LONGEST_LINE = 400
#: what may be taken home of a file is 16 MiB; logs are cut before they are compressed
LARGEST_FILE = 16 << 20
_LOGS_BYTES = 12 << 20
_LOG_BYTES = 1 << 20


def append(path: Path, line: str) -> bool:
    """One line more, on disk when this returns; False where the disk does not take it."""
    try:
        to = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            data = (line + "\n").encode(errors="replace")
            written = os.write(to, data)  # one write: lines of several processes do not mix
            os.fsync(to)
        finally:
            os.close(to)
        return written == len(data)
    except OSError:
        return False


def one_line(text: str) -> str:
    """The text without line breaks and what else a terminal acts on, cut where it is long."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    if len(text) <= LONGEST_LINE:
        return text
    return f"{text[: LONGEST_LINE - 104]} [...] {text[-97:]}"


def say(verdict: str, text: str) -> None:
    """A line of the verdict file, from whichever process of the suite; on stdout elsewhere."""
    path = os.environ.get(FILE)
    minutes, seconds = divmod(max(0.0, time.time() - float(os.environ.get(BEGIN, "inf"))), 60)
    line = f"{int(minutes):02d}:{seconds:04.1f}  {verdict:7s} {one_line(text)}"
    if path is None or not append(Path(path), line):
        with contextlib.suppress(OSError, ValueError):
            print(line, flush=True)


class Verdicts:
    """The verdict file: `say` appends to it, `show` prints what has been appended since."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "verdicts.txt"
        self.path.unlink(missing_ok=True)
        self._shown = 0
        os.environ[FILE] = str(self.path)
        os.environ[BEGIN] = str(time.time())

    def show(self) -> None:
        """Prints the lines that are new."""
        with contextlib.suppress(OSError):
            with self.path.open("rb") as file:
                file.seek(self._shown)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._shown += len(whole)
            try:
                sys.stdout.flush()
                sys.stdout.buffer.write(whole)
                sys.stdout.flush()
            except OSError:  # a reader that has gone away must not end the suite
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_whole(path: Path, text: str) -> None:
    """The file with this text; a kill leaves the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _cut(path: Path, most: int) -> bytes:
    """The file, or its two ends."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size <= most:
            return file.read()
        head = file.read(most // 2)
        file.seek(size - most // 2)
        return head + f"\n[{size - most} bytes are left out]\n".encode() + file.read()


def archive(logs: Path, folder: Path) -> None:
    """`logs.tar.gz` of everything in `logs`, the old one until the new one is whole."""
    target, partial = folder / "logs.tar.gz", folder / ".logs.partial"
    files = sorted(p for p in logs.rglob("*") if p.is_file())
    most = min(_LOG_BYTES, _LOGS_BYTES // max(1, len(files)))
    try:
        with tarfile.open(partial, "w:gz", compresslevel=6) as tar:
            for path in files:
                data = _cut(path, most)
                member = tarfile.TarInfo(str(path.relative_to(logs.parent)))
                member.size, member.mtime = len(data), int(path.stat().st_mtime)
                tar.addfile(member, io.BytesIO(data))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        print(f"gpu_suite: the archive of logs stays as it was: {error}", file=sys.stderr)
