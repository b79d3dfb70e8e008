"""Packaging that pyproject.toml cannot say: the cards at the root become package data."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["stylegan_hub", "stylegan_hub.*"]), "stylegan_hub._cards"],
    package_dir={"stylegan_hub._cards": "cards"},
    package_data={
        "stylegan_hub": ["py.typed", "ops/*.cpp", "ops/*.cu", "ops/*.cuh", "browser/*/*"],
        "stylegan_hub._cards": ["**/*"],
    },
)
