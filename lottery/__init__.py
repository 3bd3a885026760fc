"""A dataset to winning lottery tickets: dense run, trellis, masks, tickets, report."""
