"""Sphinx settings. `make docs` builds with warnings as errors."""

import shutil
import sys
from pathlib import Path

import snntorch_asnn

sys.path.insert(0, str(Path(__file__).parent))

# Sphinx reads below this folder only.
TUTORIALS = Path(__file__).with_name("tutorials")
shutil.rmtree(TUTORIALS, ignore_errors=True)
shutil.copytree(TUTORIALS.parents[1] / "tutorials", TUTORIALS)

project = "snntorch-asnn"
author = "The snntorch-asnn authors"
project_copyright = f"2026, {author}"
version = release = snntorch_asnn.__version__

extensions = [
    "accuracy_table",
    "engine_table",
    "model_table",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_custom_sections = ["Shapes"]
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88
copybutton_exclude = ".linenos, .gp, .go"

# References to this package must resolve; those to others would need the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!snntorch_asnn\.).*"),
    ("py:class", r".*\.(Builder|Net)"),  # type variables
]

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
