"""Figures of the report, as Plotly JSON."""
