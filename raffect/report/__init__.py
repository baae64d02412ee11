"""The report: numbers (collect), tables of them, drawings, and one self-contained HTML file."""
