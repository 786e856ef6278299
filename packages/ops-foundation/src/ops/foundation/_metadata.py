"""What a file keeps when another replaces it: owner, mode, ACL and extended attributes.

An ACL of POSIX.1e is an extended attribute on Linux (acl(5)). When a file has one, the group bits of its
mode are not the rights of its group but the mask of the ACL: copied as a mode alone, they would let the
group in. So where an ACL cannot be set, the group gets what its own entry allows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
import struct

__all__ = ["keep_metadata"]

_ACL = "system.posix_acl_access"
# Granted to, or computed from, the content that is replaced.
_OF_THE_CONTENT = {"security.capability", "security.ima", "security.evm"}
_CANNOT_KEEP = {errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENODATA, errno.ENOSPC}
_WITHOUT_ATTRIBUTES = {errno.ENOTSUP, errno.ENOSYS}
# An entry of the attribute: tag, permission bits, user or group (linux/posix_acl_xattr.h).
_ACL_HEADER, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_GROUP_OBJ = 0x04


def keep_metadata(descriptor: int, temporary: str, target: str, previous: os.stat_result) -> None:
    """Give the new file of *descriptor* what *target*, whose status is *previous*, has besides content."""
    mode = stat.S_IMODE(previous.st_mode)
    if os.name != "posix":
        pathlib.Path(temporary).chmod(mode)
        return
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (previous.st_uid, previous.st_gid):
        # Only root may give a file away; other users keep what can be kept: the group.
        try:
            os.fchown(descriptor, previous.st_uid, previous.st_gid)
        except PermissionError:
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, -1, previous.st_gid)
    attributes = _attributes(target)
    acl = attributes.pop(_ACL, None)
    for name, value in attributes.items():
        _set(descriptor, name, value)
    # After chown, which clears the set-id bits.
    if acl is None:
        _drop_acl(descriptor)
        os.fchmod(descriptor, mode)
    elif _set(descriptor, _ACL, acl):
        # With an ACL the group bits of the mode are its mask, which the ACL has set already.
        os.fchmod(descriptor, mode)
    else:
        os.fchmod(descriptor, mode & ~0o070 | _group_bits(acl) << 3)


def _attributes(target: str) -> dict[str, bytes]:
    if not hasattr(os, "listxattr"):
        return {}
    try:
        names = os.listxattr(target)
    except OSError as error:
        if error.errno in _WITHOUT_ATTRIBUTES:
            return {}
        raise
    found = {}
    for name in names:
        if name in _OF_THE_CONTENT:
            continue
        try:
            found[name] = os.getxattr(target, name)
        except OSError as error:
            # An ACL that could not be read is none that is not there: without it the group would get in.
            if name == _ACL and error.errno != errno.ENODATA:
                raise
    return found


def _set(descriptor: int, name: str, value: bytes) -> bool:
    try:
        os.setxattr(descriptor, name, value)
    except OSError as error:
        if error.errno in _CANNOT_KEEP:
            return False
        raise
    return True


def _drop_acl(descriptor: int) -> None:
    """Remove the ACL that the folder's default has given to the new file, and the old one had not."""
    if hasattr(os, "removexattr"):
        with contextlib.suppress(OSError):
            os.removexattr(descriptor, _ACL)


def _group_bits(acl: bytes) -> int:
    """Return the rights of the owning group's own entry."""
    for tag, bits, _ in _ACL_ENTRY.iter_unpack(acl[_ACL_HEADER.size :]):
        if tag == _ACL_GROUP_OBJ:
            return int(bits) & 0o7
    return 0
