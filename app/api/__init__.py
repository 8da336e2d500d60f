"""The HTTP side: routes, their wire types, limits and errors."""
