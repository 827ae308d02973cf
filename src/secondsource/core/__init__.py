"""Frozen records, units and errors that every other room shares."""
