"""Known answers about lottery tickets, found again on real images: `make science`."""
