"""HTML and Markdown pages of text, tables and figures."""
