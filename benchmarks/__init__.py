"""One script per figure in the README, peers beside ours in one run."""
