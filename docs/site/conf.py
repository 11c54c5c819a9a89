"""The documentation site: Sphinx over the repository itself, so that a link works in the repository and on the site.

The pages are the Markdown files that stand in the repository, the notebooks, and `docs/site/reference`, whose contents
are made of docstrings, commands and routes while the site is built. `scripts/docs` builds it.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import contents

project, author = "plait", "plait's authors"
release = version = version_of("plait")
copyright = "plait's authors, Apache-2.0"

extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode",
    "contents", "notebooks", "docstrings", "references", "rooms", "commands", "routes",
]  # fmt: skip
root_doc = contents.FRONT
include_patterns = contents.PATTERNS
exclude_patterns = ["**/.*", "build", "**/__pycache__"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext", ".ipynb": "notebook"}

# Markdown, as it is read elsewhere: the anchors of headings are those that a repository's page has.
myst_heading_anchors = 6
smartquotes = False  # a dash of two hyphens is an option's
# An error that several rooms pass on stands on a page of each; a link leads to the first of them, its own.
suppress_warnings = ["ref.python"]

# Docstrings. What only other frameworks have is not needed to describe plait.
autodoc_mock_imports = ["haystack", "langchain_core", "llama_index", "pydantic", "torch", "transformers"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "exclude-members": "to_dict, from_dict"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
default_role = "py:obj"  # `name` in a docstring is a link where there is such a name, code elsewhere
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "plait"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # a browser fetches no page for it where the site is read from a disk
html_domain_indices = False
html_use_opensearch = ""
pygments_style, pygments_dark_style = "friendly", "native"
