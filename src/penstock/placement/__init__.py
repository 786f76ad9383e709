"""How many workers an app gets, where they start, and what is repaired: observe, plan (pure), act; and a maintainer."""
