"""What the targets that generate source code share: where values lie, the schedule of kernels, what layers compute as
expressions, and lowerings to kernels that all of them write."""
