"""What sampling on a CPU needs compiled."""
