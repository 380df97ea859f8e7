"""Zip archives from clients, unpacked within bounds: a member's name never becomes a file's name, and a bomb ends at the bound."""

import stat
import zipfile
import zlib
from pathlib import Path

from sam_adapters.errors import ImageError
from sam_adapters.image_names import IMAGE_EXTENSIONS
from sam_adapters.images import MAX_IMAGE_BYTES

MAX_MEMBERS = 5_000
_CHUNK = 1 << 20


def unpack_images(archive: Path, folder: Path) -> list[Path]:
    """Unpack the files of a zip archive into `folder` as 00000.dcm, 00001.dcm …; a known image ending is kept.

    Raises:
        ImageError: not a zip archive, damaged, encrypted, empty, more than `MAX_MEMBERS` files, more than `MAX_IMAGE_BYTES` unpacked (as
            counted, whatever the archive says), or a member that is a link or whose name climbs or is absolute.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_members(members)
            return _unpack(opened, members, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("The archive cannot be unpacked: it is damaged, encrypted or not a zip file.") from error


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if not members:
        raise ImageError("The archive holds no files.")
    if len(members) > MAX_MEMBERS:
        raise ImageError(f"The archive holds {len(members):,} files, at most {MAX_MEMBERS:,} are taken.")
    for member in members:
        name = member.filename.replace("\\", "/")
        if name.startswith("/") or ":" in name or ".." in name.split("/"):
            raise ImageError(f"The archive holds the name {name[:80]!a}, expected names inside the archive.")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ImageError(f"The archive holds {name[:80]!a}, which is not a plain file.")


def _unpack(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path) -> list[Path]:
    left, files = MAX_IMAGE_BYTES, []
    for number, member in enumerate(members):
        ending = next((ending for ending in IMAGE_EXTENSIONS if member.filename.lower().endswith(ending)), ".dcm")
        path = folder / f"{number:05d}{ending}"
        with opened.open(member) as source, path.open("xb") as target:
            while part := source.read(min(_CHUNK, left + 1)):
                left -= len(part)
                if left < 0:
                    raise ImageError(f"The archive holds more than {MAX_IMAGE_BYTES / 2**30:.0f} GiB, which is the most that is read.")
                target.write(part)
        files.append(path)
    return files
