"""Values and small services that every part uses: architectures, genotypes, errors, seeds, files, the terminal."""
