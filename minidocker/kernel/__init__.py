"""What Linux offers, thin and typed, under the kernel's own names; no policy, no paths of ours."""
