"""Files of a data set by their name in it: in a folder, or fetched from its hub as they are read.

Members of zip archives are read where they are; nothing is ever unpacked.
"""

import contextlib
import dataclasses
import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Iterable, Iterator

from alpamayo_jax.types import InputError

MAX_MEMBER_BYTES = 4 * 2**30  # of one member, unpacked: more is no clip of a drive
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError),
    ValueError,
)


class Files:
    """The files of a data set below a folder."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return self._path(name).is_file()

    @contextlib.contextmanager
    def open(self, where: str, name: str) -> Iterator[BinaryIO]:
        """The file, for reading; raises `InputError`, which starts with `where`, if absent."""
        path = self._path(name)
        if not path.is_file():
            raise InputError(f"{where}: {path} is missing; fetch it, or leave out what needs it")
        with path.open("rb") as file:
            yield file

    def _path(self, name: str) -> Path:
        if outside(name):
            raise InputError(f"{self.root}: {name!r} is not a file of the data set")
        return self.root / name


class HubFiles(Files):
    """As `Files`; what the folder lacks is streamed through the package `physical_ai_av`."""

    def __init__(self, root: str | Path):
        super().__init__(root)
        self._hub: Any = None

    def has(self, name: str) -> bool:
        """True: whether the hub has it shows when it is opened."""
        return True

    @contextlib.contextmanager
    def open(self, where: str, name: str) -> Iterator[BinaryIO]:
        """The file here if it is, else the hub's."""
        if super().has(name):
            with super().open(where, name) as file:
                yield file
            return
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(self._interface().open_file(name, maybe_stream=True))
            # The hub's errors are of many kinds: no network, no licence accepted, no such file.
            except Exception as error:
                raise InputError(f"{where}: {name} cannot be streamed: {error}") from error
            yield file

    def _interface(self) -> Any:
        if self._hub is None:
            try:
                import physical_ai_av
            except ImportError:
                raise InputError(
                    "streaming needs physical_ai_av: pip install 'alpamayo_jax[stream]'"
                ) from None
            self._hub = physical_ai_av.PhysicalAIAVDatasetInterface(
                cache_dir=str(self.root / ".hub"), confirm_download_threshold_gb=float("inf")
            )
        return self._hub

    def __getstate__(self):
        return self.__dict__ | {"_hub": None}


def outside(name: str) -> bool:
    """Whether a name of a file or a member leads out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(path.parts) > 0 and path.parts[0].endswith(":")
    return not path.parts or path.is_absolute() or ".." in path.parts or drive


def read_member(
    where: str, files: Files, archive: str, member: str, owner: str, others: Iterable[str]
) -> bytes:
    """One member of a zip archive.

    Args:
      where: start of messages, names the clip.
      files: of the data set.
      archive: name of the archive.
      member: name of the member.
      owner: the clip that it belongs to.
      others: all clips of the archive; a member that leads out of its folder concerns the clip it
        names, or every clip where it names none.

    Raises:
      InputError: archive or member are missing, damaged or larger than `MAX_MEMBER_BYTES`, or a
        member leads out of the archive's folder.
    """
    place = f"{where}: {archive}"
    with files.open(where, archive) as file:
        try:
            with zipfile.ZipFile(file) as opened:
                _check_names(place, opened.namelist() + [member], owner, others)
                info = opened.getinfo(member)
                if info.file_size > MAX_MEMBER_BYTES:
                    raise InputError(
                        f"{place}: member {member!r} unpacks to {info.file_size} bytes, more than "
                        f"{MAX_MEMBER_BYTES}"
                    )
                return opened.read(info)
        except KeyError:
            raise InputError(f"{place}: has no member {member!r}") from None
        except InputError:
            raise
        except _DAMAGE as error:
            raise InputError(f"{place}: cannot be read as a zip archive: {error}") from error


def member_names(where: str, files: Files, archive: str) -> list[str]:
    """The members of a zip archive; raises `InputError` where it is missing or damaged."""
    with files.open(where, archive) as file:
        try:
            with zipfile.ZipFile(file) as opened:
                return opened.namelist()
        except _DAMAGE as error:
            raise InputError(f"{where}: {archive}: cannot be read as a zip: {error}") from error


def _check_names(place: str, names: Iterable[str], owner: str, others: Iterable[str]) -> None:
    bad = [name for name in names if outside(name)]
    for name in bad:
        if owner in name or not any(other in name for other in others):
            raise InputError(f"{place}: member {name!r} leads out of the archive's folder; refused")


@dataclasses.dataclass(frozen=True)
class MemberFile:
    """Opens a member of a zip archive; can be sent to other processes."""

    where: str
    files: Files
    archive: str
    member: str
    owner: str
    others: tuple[str, ...]

    def read(self) -> bytes:
        """The member; raises `InputError` as `read_member`."""
        return read_member(
            self.where, self.files, self.archive, self.member, self.owner, self.others
        )

    def __call__(self) -> BinaryIO:
        return io.BytesIO(self.read())
