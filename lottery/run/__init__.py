"""The run directory: its artefacts, heartbeats and mailbox."""
