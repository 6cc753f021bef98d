"""Adoption: what dead processes left in the spool directory is delivered by one that lives.

Always true: an orphan has one adopter, who holds the lock on every file of it; its files are removed only by
`done`, so an adopter that dies leaves them to the next; memory holds the open intents and one chunk of a file,
however much was left. Delivering the same outcome twice is possible and harmless: a record's identity is its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from otel_llmlog.pipeline.spool import aside, files, folder, frames
from otel_llmlog.pipeline.spool.spool import POSITION

# Places of damage that are remembered, to be kept aside. More are counted.
_MAX_GAPS = 1000


class _Part(NamedTuple):
    name: files.Name
    path: Path
    fd: int
    identity: files.Identity | None
    size: int
    seed: int

    def is_blank(self, gap: frames.Gap) -> bool:
        return frames.is_blank(partial(files.read_at, self.fd), gap.start, gap.end)

    def scan(self, start: int = 0, end: int | None = None) -> Iterator[frames.Frame | frames.Gap]:
        return frames.scan(partial(files.read_at, self.fd), start, self.size if end is None else end, self.seed)


@dataclass(slots=True)
class _Survey:
    """What one pass over the files of an owner finds."""

    outcomes: int = 0
    """Not noted as delivered."""
    delivered: tuple[int, int] = (0, 0)
    """Segment and offset before which all outcomes are delivered."""
    open: dict[int, tuple[_Part, int, int]] = field(default_factory=dict)
    """Where the intents without outcome are, by ticket."""
    ended: dict[int, tuple[_Part, int, int]] = field(default_factory=dict)
    """Where the endings are."""
    corrupt: int = 0
    gaps: list[tuple[_Part, int, int]] = field(default_factory=list)

    def note_damage(self, part: _Part, gap: frames.Gap) -> None:
        self.corrupt += 1
        if len(self.gaps) < _MAX_GAPS:
            self.gaps.append((part, gap.start, gap.end))


def _survey(parts: list[_Part], *, live: bool) -> _Survey:
    found = _Survey()
    # Intents first: an outcome in whatever segment closes one.
    tables = [part for part in parts if part.name.ending == files.INTENTS]
    segments = [part for part in parts if part.name.ending == files.SEGMENT]
    for table in tables:
        for item in table.scan():
            if isinstance(item, frames.Frame):
                if item.kind == frames.INTENT:
                    found.open[item.ticket] = table, item.start, item.end
                elif item.kind == frames.ENDING:
                    found.ended[item.ticket] = table, item.start, item.end
            elif not (live or table.is_blank(item)):  # free slots, or what a live owner is just writing
                found.note_damage(table, item)
    found.open = dict(sorted(found.open.items()))  # oldest first
    for part in segments:
        for item in part.scan():
            if isinstance(item, frames.Gap):
                # The same.
                if not (live and item.end == part.size and part is segments[-1]):
                    found.note_damage(part, item)
            elif item.kind == frames.OUTCOME:
                found.outcomes += 1
                found.open.pop(item.ticket, None)
            elif item.kind == frames.DELIVERED and len(item.payload) == POSITION.size:
                number, offset, found.outcomes = POSITION.unpack(item.payload)
                found.delivered = number, offset
    return found


class Orphan:
    """The spool of a dead process, locked. Deliver `outcomes`, then `intents`, then call `done`."""

    def __init__(self, directory: Path, owner: str, parts: list[_Part]) -> None:
        self.owner = owner
        self.bytes = sum(part.size for part in parts)
        self._directory = directory
        self._parts = parts
        self._pid = os.getpid()
        self._survey = _survey(parts, live=False)
        self.outcome_count = self._survey.outcomes
        self.intent_count = len(self._survey.open)
        self.corrupt = self._survey.corrupt
        """Places of damage that were passed over."""

    def outcomes(self) -> Iterator[bytes]:
        """Outcomes that are not known to be delivered, oldest first."""
        number, offset = self._survey.delivered
        for part in self._parts:
            if part.name.number >= number and part.name.ending == files.SEGMENT:
                for item in part.scan(offset if part.name.number == number else 0):
                    if isinstance(item, frames.Frame) and item.kind == frames.OUTCOME:
                        yield item.payload

    def intents(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Intents that never got an outcome, because their process died, each with its ending.

        Where there is none, it is not known what became of the call.
        """
        for ticket, place in self._survey.open.items():
            if (intent := _payload(place)) is not None:
                yield intent, _payload(self._survey.ended.get(ticket))

    def done(self) -> None:
        """All is delivered: keep the damaged parts aside and remove the files."""
        if self._pid != os.getpid():  # a forked child has no lock
            return
        for part in self._parts:
            damage = [gap[1:] for gap in self._survey.gaps if gap[0] is part]
            files.keep_aside(self._directory, part.name.stem, part.fd, damage)
        # Intents before what closes them.
        for part in sorted(self._parts, key=lambda part: part.name.ending != files.INTENTS):
            files.remove(part.path)
        self.release()

    def release(self) -> None:
        """Leave the rest to the next adopter. Does nothing after `done`."""
        parts, self._parts = self._parts, []
        if parts:
            _close(parts)
            if self._pid == os.getpid():
                files.unclaim(self.owner)


def _payload(place: tuple[_Part, int, int] | None) -> bytes | None:
    found = () if place is None else place[0].scan(*place[1:])
    return next((item.payload for item in found if isinstance(item, frames.Frame)), None)


def adopt(directory: str | os.PathLike[str]) -> Iterator[Orphan]:
    """Each orphan in the directory, locked; going on to the next one releases it. Never raises."""
    place = Path(directory).absolute()
    try:
        uid = folder.check(place)
    except OSError:
        return
    for owner, names in sorted(files.owners(place).items()):
        if not files.claim(owner):
            continue  # this process's own, or being adopted on another thread
        parts = _take(place, names, uid)
        if not parts:
            files.unclaim(owner)
            continue
        orphan = Orphan(place, owner, parts)
        try:
            yield orphan
        finally:
            orphan.release()


def has_orphans(directory: str | os.PathLike[str]) -> bool:
    """Whether a dead process left files there: told without reading them, or getting in their owners' way."""
    place = Path(directory).absolute()
    try:
        uid = folder.check(place)
    except OSError:
        return False
    for owner, names in files.owners(place).items():
        if not files.claim(owner):
            continue
        try:
            if all(_is_free(name.at(place), uid) for name in names):
                return True
        finally:
            files.unclaim(owner)
    return False


def _is_free(path: Path, uid: int) -> bool:
    fd = files.open_existing(path, uid, write=False)
    if fd is None:
        return False
    try:
        return files.lock(fd, shared=True)
    finally:
        os.close(fd)


def _take(directory: Path, names: list[files.Name], uid: int) -> list[_Part]:
    """Open and lock every file of an owner, oldest first; none of them if one cannot be had.

    A live owner holds at least one of them: they would not all have locked. One that cannot be opened is in
    another adopter's hands, or is a link or the like: the rest is left as well, since an outcome might stand in it
    whose intent, in another file, would be taken for one without.
    """
    parts: list[_Part] = []
    for name in names:
        path = name.at(directory)
        fd = files.open_existing(path, uid, write=True)
        if fd is None:
            _close(parts)
            return []
        identity = files.identity(fd)
        locked = files.lock(fd) and files.is_at(path, identity)
        parts.append(_Part(name, path, fd, identity, os.fstat(fd).st_size, frames.seed(name.stem)))
        if not locked:
            _close(parts)
            return []
    return parts


def _close(parts: list[_Part]) -> None:
    for part in parts:
        files.close(part.fd, part.identity)


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """A spool directory at a glance."""

    live: int = 0
    """Processes that live and have files there."""
    orphans: int = 0
    """Dead processes whose files wait to be adopted."""
    bytes: int = 0
    """Of all plain files in the directory."""
    outcomes: int = 0
    """Not delivered yet, of other processes than this one."""
    orphaned: int = 0
    """Those of dead processes among them."""
    intents: int = 0
    """Without outcome: calls under way, or cut off by the death of their process."""
    corrupt: int = 0
    """Places of damage."""
    set_aside_bytes: int = 0
    """Of unreadable data kept in `.corrupt` files."""
    written_at: float | None = None
    """Epoch seconds: when records were last put there."""
    refused: tuple[str, ...] = ()
    """What is in the way there, and what it is: the folder itself, or files in it that are not what they should be."""


def status(directory: str | os.PathLike[str]) -> SpoolStatus:
    """Look at a spool directory without getting in its owners' way. Of this process's own, only that they are live."""
    place = Path(directory).absolute()
    try:
        uid = folder.check(place)
    except folder.RefusedError as error:
        return SpoolStatus(refused=(str(error.strerror),))
    except OSError:
        return SpoolStatus()
    live = orphans = outcomes = orphaned = intents = corrupt = 0
    latest: float | None = None
    for owner, names in files.owners(place).items():
        if not files.claim(owner):
            live += 1
            continue
        parts: list[_Part] = []
        try:
            free = True
            for name in names:
                path = name.at(place)
                fd = files.open_existing(path, uid, write=False)
                if fd is not None:
                    free = files.lock(fd, shared=True) and free
                    found_there = os.fstat(fd)
                    latest = max(latest or 0.0, found_there.st_mtime)
                    size, seed = found_there.st_size, frames.seed(name.stem)
                    parts.append(_Part(name, path, fd, files.identity(fd), size, seed))
            if parts:
                live, orphans = live + (not free), orphans + free
                found = _survey(parts, live=not free)
                outcomes, intents = outcomes + found.outcomes, intents + len(found.open)
                orphaned += found.outcomes if free else 0
                corrupt += found.corrupt
        finally:
            _close(parts)
            files.unclaim(owner)
    kept, odd = files.used(place, ending=".corrupt"), tuple(map(str, aside.odd(place, uid)))
    return SpoolStatus(live, orphans, files.used(place), outcomes, orphaned, intents, corrupt, kept, latest, odd)
