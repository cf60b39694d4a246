"""The fixtures are those of the end-to-end tests."""

from tests.e2e.conftest import busybox, md  # noqa: F401
