"""Runs worker groups and feeds them with tasks."""
