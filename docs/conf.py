"""Configuration of the documentation."""

project = "ops"
author = "The ops founders"
copyright = "2026, The ops founders"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "ops"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
