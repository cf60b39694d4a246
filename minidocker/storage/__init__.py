"""What lies on disk: state.db and rootfs views."""
