"""Model bundles: what lies on disk, how it is fetched, checked, and loaded."""
