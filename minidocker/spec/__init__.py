"""The OCI runtime-spec and our own records as data; pure, no input or output."""
