"""What a report knows of a sweep: read once from its run directories; the rest is pure."""
