"""A module of a user's own with a mistake in it."""

import no_such_library  # type: ignore[import-not-found]  # noqa: F401
