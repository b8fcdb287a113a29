"""Operations and the networks that genotypes build."""
