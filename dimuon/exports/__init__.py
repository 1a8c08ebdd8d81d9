"""What an analysis hands on: HEPData tables, pyhf workspaces, CSV and JSON with a manifest."""
