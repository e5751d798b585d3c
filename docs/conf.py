"""Sphinx configuration; `make docs` builds."""

from importlib.metadata import version as installed_version
from importlib.util import find_spec

project = "kernelops"
author = "kernelops developers"
copyright = "kernelops developers, MIT license"
release = version = installed_version("kernelops")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "_operations.md", "_solve.md", "_kernelsolve.md"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]  # the docs extra does not bring PyTorch
numpydoc_show_class_members = False
autosummary_generate = False

html_theme = "furo"
html_title = f"kernelops {release}"
