"""Pictures of the report, as Vega-Lite specifications that the page and files share."""
