"""
Repair: what can be read is written anew, what cannot is put aside, and nothing is thrown away.

Segments only. The decision log is evidence: it is never changed, `decisions
verify` says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agentguard.errors import StoreError
from agentguard.seal import PRIVATE_FOLDER_MODE, Keystore
from agentguard.store._damage import Damage
from agentguard.store._disk import Disk
from agentguard.store._layout import Kind, parse_pack_name, parse_segment_name
from agentguard.store._sealing import QUARANTINE, Sealer
from agentguard.store._segment import SegmentFile

_ALL_KINDS = frozenset(Kind)
_PUT_ASIDE = frozenset({"header", "torn", "tampered", "foreign"})
"""Why nothing in a file can be opened, and never will be. A missing key may come back."""


class Repaired(NamedTuple):
    """What repair did, by the names of the files."""

    sealed: tuple[str, ...]
    """Live segments of processes that are gone."""
    rebuilt: tuple[str, ...]
    """Sealed anew from what can be read; the damaged file is in quarantine."""
    put_aside: tuple[str, ...]
    """Of no use, and moved to quarantine as they are."""
    left: tuple[str, ...]
    """In use, or not to be opened with the keys that there are."""


def repair(
    segments: Path, keystore: Keystore, sealer: Sealer, disk: Disk, rebuild_pack: Callable[[Path], bool]
) -> Repaired:
    """
    Repair all segments that no process writes to.

    Raises:
        StoreError: The disk refused; what was not repaired is as it was.
    """
    sealed: list[str] = []
    rebuilt: list[str] = []
    put_aside: list[str] = []
    left: list[str] = []
    try:
        for path in sorted(segments.iterdir()):
            is_pack = parse_pack_name(path.name) is not None
            if parse_segment_name(path.name) is None and not is_pack:
                continue
            damage: list[Damage] = []
            segment = SegmentFile.open(path, keystore, damage.append)
            if segment is None:
                if damage and damage[0].kind in _PUT_ASIDE:
                    _put_aside(path, disk)
                    put_aside.append(path.name)
                elif damage:
                    left.append(path.name)
                continue
            with segment:
                is_sealed = segment.is_sealed
                if is_sealed:
                    for _ in segment.frames(_ALL_KINDS):
                        pass
                    lost = segment.footer.damage if segment.footer is not None else {}
                    is_damaged = len(damage) > len(lost)
            if not is_sealed:
                (sealed if sealer.seal(path) else left).append(path.name)
            elif is_damaged and is_pack:
                if rebuild_pack(path):
                    _put_aside(path, disk)
                    rebuilt.append(path.name)
                else:
                    left.append(path.name)
            elif is_damaged:
                (rebuilt if sealer.rebuild(path) else left).append(path.name)
    except OSError as error:
        raise StoreError(f"{segments}: cannot be repaired: {error.strerror or error}") from error
    return Repaired(tuple(sealed), tuple(rebuilt), tuple(put_aside), tuple(left))


def _put_aside(path: Path, disk: Disk) -> None:
    """Move a file to quarantine; one of the same name that is there already is kept as well."""
    folder = path.parent.parent / QUARANTINE
    folder.mkdir(mode=PRIVATE_FOLDER_MODE, exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        target, number = folder / f"{path.name}.{number}", number + 1
    disk.rename(path, target)
    disk.sync_folder(folder)
    disk.sync_folder(path.parent)
