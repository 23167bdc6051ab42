"""HTTP: routes, bodies, errors. Knows tasks and queue verbs; not messages, not SQL."""
