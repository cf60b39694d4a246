"""The OCI life cycle: create, start, state, exec, kill, delete; knows no images and no bridges."""
