"""Regrouping, weights, budgets and exposure: plain functions from tables to tables, and the manifest they end in."""
