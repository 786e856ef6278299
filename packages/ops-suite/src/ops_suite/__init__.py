"""The ops libraries in versions that were tested together: doctor, versions, demo.

This module lies outside the namespace `ops`, so that it can report what is wrong when another distribution's
`ops` hides ours.
"""

from ops_suite.doctor import Finding, diagnose
from ops_suite.versions import installed_versions, pinned_versions

__all__ = ["Finding", "diagnose", "installed_versions", "pinned_versions"]
