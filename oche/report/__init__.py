"""Reports of run directories: figures and self-contained HTML pages, made from the files of runs alone."""
