"""Containers as users know them: composes runtime, network and storage."""
