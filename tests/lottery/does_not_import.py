"""A user's module that fails to import."""

import no_such_library  # type: ignore[import-not-found]  # noqa: F401
