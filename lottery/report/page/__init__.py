"""`report/index.html`: one page with all that a sweep has found."""
