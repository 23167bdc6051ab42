"""Makes the demo model: paints pictures, writes captions, trains, judges and exports.

A sibling of the serving package that neither imports it nor is imported by it.
"""
