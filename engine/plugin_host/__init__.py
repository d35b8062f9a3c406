"""Finds plugins, holds them to the contract, and gives them their handles. Runs nothing by itself."""
