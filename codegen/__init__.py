"""Kernel sources, rendered from plain records and templates; knows neither graphs nor targets."""
