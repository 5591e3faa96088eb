"""How much memory the mesh takes."""

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def processes_of(root_pid: int, proc: Path = Path("/proc")) -> list[int]:
    """A process and all its descendants, by process id."""
    parents: dict[int, int] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                # "pid (name) state ppid …"; a name may hold spaces and brackets.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended meanwhile
    found = [root_pid]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def resident_bytes(root_pid: int) -> int:
    """Resident memory of a process and its descendants, summed (pages that they share count for each)."""
    total = 0
    for pid in processes_of(root_pid):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except OSError:
            continue
    return total
