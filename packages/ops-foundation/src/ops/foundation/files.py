"""All that concerns files and folders by one name; each part is a module of its own."""

from ops.foundation.atomic_files import Durability, atomic_write, safe_file_write, sync_directory
from ops.foundation.directories import ensure_directory, temporary_directory
from ops.foundation.file_listing import (
    FileInfo,
    cleanup_old_files,
    copy_with_progress,
    find_files,
    get_file_info,
)
from ops.foundation.paths import RelativePath, StrPath, safe_join
from ops.foundation.watching import ChangeKind, DirectoryWatch, FileChange, watch_directory

__all__ = [
    "ChangeKind",
    "DirectoryWatch",
    "Durability",
    "FileChange",
    "FileInfo",
    "RelativePath",
    "StrPath",
    "atomic_write",
    "cleanup_old_files",
    "copy_with_progress",
    "ensure_directory",
    "find_files",
    "get_file_info",
    "safe_file_write",
    "safe_join",
    "sync_directory",
    "temporary_directory",
    "watch_directory",
]
