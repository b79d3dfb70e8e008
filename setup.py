"""Packaging that pyproject.toml cannot say: what lies at the root of a clone becomes package data.

The cards are `stylegan_hub._cards`. The page and the recipes are `stylegan_hub._clone`, with the
layout that they have in a clone, so that `stylegan_hub.clone.root()` is the same folder in both.
"""

from setuptools import find_packages, setup

CLONE = "stylegan_hub._clone"

setup(
    packages=[
        *find_packages(include=["stylegan_hub", "stylegan_hub.*"]),
        "stylegan_hub._cards",
        CLONE,  # app.py and the two files below
        f"{CLONE}.demo",
        f"{CLONE}.demo.tabs",
        f"{CLONE}.recipes",
        f"{CLONE}.docs.targets",
    ],
    package_dir={"stylegan_hub._cards": "cards", CLONE: "."},
    package_data={
        "stylegan_hub": [
            "py.typed",
            "metrics/*.json",
            "ops/*.cpp",
            "ops/*.cu",
            "ops/*.cuh",
            "browser/*/*",
        ],
        "stylegan_hub._cards": ["**/*"],
        CLONE: ["LICENSE", "requirements.txt"],
        f"{CLONE}.demo": ["*.css", "*.js", "*.json"],
        f"{CLONE}.recipes": ["*.json"],
        f"{CLONE}.docs.targets": ["*.png"],
    },
    script_name="setup.py",  # which setuptools leaves out, and cannot tell by itself under pip
    include_package_data=False,  # nothing but what is named here; "." would take all files
)
