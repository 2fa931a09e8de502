"""Labels and what people made of them: who works on what next, and what comes out.

Three passes, as the dataset of the paper was made (section 4): an annotator judges or writes a
label, a second person checks every one, and a third audits a part of them that is larger for
annotators whose labels the second person had to change.
"""

import collections
import dataclasses
import datetime
import hashlib
import os
import threading
from typing import Any, Sequence

from alpamayo_jax.coc.schema import CocLabel, Status
from alpamayo_jax.review.edits import Action, Edit, EditLog, Role, checked_author
from alpamayo_jax.types import InputError

LEAST_AUDIT, MOST_AUDIT = 0.1, 0.2  # of the labels of an annotator
_ENOUGH = 5  # checked labels before an annotator's record says something

Key = tuple[str, int]


class Conflict(InputError):
    """Somebody else edited the same label meanwhile."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One label and its story.

    Attributes:
      original: the automatic label, or None where a person began it.
      edits: of this label, in order.
    """

    original: CocLabel | None
    edits: tuple[Edit, ...] = ()

    @property
    def label(self) -> CocLabel:
        """The label as it stands, with the status that people gave it."""
        if not self.edits:
            return self.original
        verdicts = [e.action for e in self.edits if e.action is not Action.SAVE]
        status = Status.PROPOSED
        if verdicts:
            status = Status.ACCEPTED if verdicts[-1] is Action.ACCEPT else Status.REJECTED
        return dataclasses.replace(self.edits[-1].label, status=status)

    def verdict(self, role: Role) -> Edit | None:
        """The last acceptance or rejection in a pass."""
        found = [e for e in self.edits if e.role is role and e.action is not Action.SAVE]
        return found[-1] if found else None

    @property
    def open_role(self) -> Role | None:
        """The pass that the label waits for; None after the second (audits are drawn, not due)."""
        if self.verdict(Role.ANNOTATOR) is None:
            return Role.ANNOTATOR
        return Role.SECOND if self.verdict(Role.SECOND) is None else None


def same_content(a: CocLabel, b: CocLabel) -> bool:
    """Whether two labels say the same, whoever wrote them."""
    blank = {"author": "-", "provenance": {}, "status": Status.PROPOSED}
    return dataclasses.replace(a, **blank) == dataclasses.replace(b, **blank)


class Book:
    """Labels in order, with the edits of a file; may be used from many threads."""

    def __init__(self, labels: Sequence[CocLabel], path: str | os.PathLike):
        """Reads the edits.

        Args:
          labels: automatic ones, at most one per keyframe.
          path: of the file of edits, which is made with the first one.

        Raises:
          InputError: the file is defective.
        """
        self._log, self._guard = EditLog(path), threading.Lock()
        self._entries: dict[Key, Entry] = {label.key: Entry(label) for label in labels}
        self._catch_up()

    def _catch_up(self) -> None:
        for edit in self._log.read_new():
            self._add(edit)

    def _add(self, edit: Edit) -> None:
        entry = self._entries.get(edit.label.key, Entry(None))
        self._entries[edit.label.key] = Entry(entry.original, (*entry.edits, edit))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def keys(self) -> list[Key]:
        """Of all labels; those that people began come last."""
        return list(self._entries)

    def entry(self, key: Key) -> Entry:
        """The label of a keyframe; raises `KeyError` where there is none."""
        return self._entries[key]

    def record(
        self,
        label: CocLabel,
        author: str,
        role: Role,
        action: Action,
        base: int,
        note: str = "",
        late_components: bool = False,
        now: datetime.datetime | None = None,
    ) -> Entry:
        """Keeps what somebody did, on disk when this returns.

        Args:
          label: as they left it; its author, provenance and status are set here.
          author: who.
          role: in which pass.
          action: what.
          base: how many edits of the label they had seen.
          note: why; needed to reject.
          late_components: whether components were changed after the future was shown.
          now: the time, for tests.

        Raises:
          Conflict: there are newer edits.
          InputError: no name, no reason for a rejection, the same person in two passes, or the
            label is not valid.
        """
        author = checked_author(author)
        if action is Action.REJECT and not note.strip():
            raise InputError("a rejection needs a note that says why")
        now = now or datetime.datetime.now(datetime.timezone.utc)
        with self._guard, self._log.locked() as append:
            self._catch_up()
            entry = self._entries.get(label.key, Entry(None))
            if base != len(entry.edits):
                newer = entry.edits[-1].author if entry.edits else "nobody"
                raise Conflict(
                    f"clip {label.clip!r} at {label.keyframe_s:.1f} s was changed by {newer} "
                    f"meanwhile; look at it again"
                )
            _check_person(entry, author, role)
            edit = Edit(
                time=now.isoformat(timespec="milliseconds"),
                author=author,
                role=role,
                action=action,
                label=_signed(entry, label, author),
                base=base,
                note=note.strip(),
                late_components=late_components,
            )
            append(edit)
            self._add(edit)
            return self._entries[label.key]

    def next_for(self, author: str, role: Role, after: Key | None = None) -> Key | None:
        """The next label that this person may work on in this pass, after one of them.

        The search goes around, so that `None` says that there is none left.
        """
        keys, start = self.keys, 0
        if after in self._entries:
            start = keys.index(after) + 1
        audited = set(self.to_audit()) if role is Role.AUDIT else set()
        for key in keys[start:] + keys[:start]:
            entry = self._entries[key]
            due = key in audited if role is Role.AUDIT else entry.open_role is role
            if due and not _worked_in_another_pass(entry, author, role):
                return key
        return None

    def to_audit(self) -> list[Key]:
        """Twice-checked labels that are drawn for an audit and not yet audited.

        The share grows from `LEAST_AUDIT` to `MOST_AUDIT` with how many of the annotator's labels
        the second person changed or rejected; which ones is drawn by a hash, and never changes.
        """
        share = {name: row["audit_share"] for name, row in self.annotators().items()}
        drawn = []
        for key, entry in self._entries.items():
            first, second = entry.verdict(Role.ANNOTATOR), entry.verdict(Role.SECOND)
            if first is None or second is None or entry.verdict(Role.AUDIT) is not None:
                continue
            if _draw(key) < share[first.author]:
                drawn.append(key)
        return drawn

    def annotators(self) -> dict[str, dict[str, float]]:
        """Of each first annotator: checked, changed, agreement, audit_share."""
        checked, changed = collections.Counter(), collections.Counter()
        for entry in self._entries.values():
            first, second = entry.verdict(Role.ANNOTATOR), entry.verdict(Role.SECOND)
            if first is None or second is None:
                continue
            checked[first.author] += 1
            same = first.action is second.action and same_content(first.label, second.label)
            changed[first.author] += not same
        rows = {}
        for name, count in sorted(checked.items()):
            rate = changed[name] / count
            # Of somebody new nothing is known, so as much is audited as of the worst.
            share = MOST_AUDIT
            if count >= _ENOUGH:
                share = min(LEAST_AUDIT + (MOST_AUDIT - LEAST_AUDIT) * 2 * rate, MOST_AUDIT)
            rows[name] = {
                "checked": count,
                "changed": changed[name],
                "agreement": 1.0 - rate,
                "audit_share": share,
            }
        return rows

    def labels(self) -> list[CocLabel]:
        """Every label as it stands."""
        return [entry.label for entry in self._entries.values()]

    def summary(self) -> dict[str, Any]:
        """Counts: labels, edits, by status, twice checked, audited, late_components, annotators."""
        entries = list(self._entries.values())
        status = collections.Counter(entry.label.status.value for entry in entries)
        edits = [edit for entry in entries for edit in entry.edits]
        return {
            "labels": len(entries),
            "edits": len(edits),
            **{name.value: status[name.value] for name in Status},
            "checked_twice": sum(entry.verdict(Role.SECOND) is not None for entry in entries),
            "audited": sum(entry.verdict(Role.AUDIT) is not None for entry in entries),
            "late_components": sum(edit.late_components for edit in edits),
            "annotators": self.annotators(),
        }


def _worked_in_another_pass(entry: Entry, author: str, role: Role) -> bool:
    return any(e.author == author and e.role is not role for e in entry.edits)


def _check_person(entry: Entry, author: str, role: Role) -> None:
    if _worked_in_another_pass(entry, author, role):
        raise InputError(
            f"{author} worked on this label in another pass already; every pass is another person's"
        )
    if role is Role.SECOND and entry.verdict(Role.ANNOTATOR) is None:
        raise InputError("no annotator has judged this label yet, so there is nothing to check")
    if role is Role.AUDIT and entry.verdict(Role.SECOND) is None:
        raise InputError("this label has not been checked by a second person yet")


def _signed(entry: Entry, label: CocLabel, author: str) -> CocLabel:
    """The label with its author: a new one where the content is no longer the earlier author's."""
    before = entry.label if entry.edits or entry.original is not None else None
    if before is not None and same_content(before, label):
        kept = {"author": before.author, "provenance": before.provenance}
    else:
        kept = {"author": author, "provenance": {"labeller": "human"}}
        if before is not None:
            kept["provenance"] |= {"edited_from": before.author}
    return dataclasses.replace(label, **kept, status=Status.PROPOSED)


def _draw(key: Key) -> float:
    """A number in [0, 1) that belongs to a label."""
    digest = hashlib.sha256(f"{key[0]}\0{key[1]}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
