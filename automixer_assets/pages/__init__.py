"""What each asset's page shows a person: numbers, tables and plots read from the published folder alone.

Every page answers the question that opens its asset's description. Nothing here computes results.
"""
