"""What these tests share."""

# Operation at C channels, stride s, on H x W pixels out: (weights, multiply-adds), on paper.
BY_HAND = {
    "none": lambda c, s, n: (0, 0),
    "max_pool_3x3": lambda c, s, n: (0, 0),
    "avg_pool_3x3": lambda c, s, n: (0, 0),
    "skip_connect": lambda c, s, n: (0, 0) if s == 1 else (c * c + 2 * c, n * c * c),
    "sep_conv_3x3": lambda c, s, n: (2 * (9 * c + c * c + 2 * c), 2 * n * (9 * c + c * c)),
    "sep_conv_5x5": lambda c, s, n: (2 * (25 * c + c * c + 2 * c), 2 * n * (25 * c + c * c)),
    "dil_conv_3x3": lambda c, s, n: (9 * c + c * c + 2 * c, n * (9 * c + c * c)),
    "dil_conv_5x5": lambda c, s, n: (25 * c + c * c + 2 * c, n * (25 * c + c * c)),
}
