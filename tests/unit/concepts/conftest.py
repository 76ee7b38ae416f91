"""The real vocabulary, for the coverage of the built in sets."""

from tests.fixtures.real_model import smollm2_folder

__all__ = ["smollm2_folder"]
