"""The gradient of a leak that stays in [0, 1]."""
