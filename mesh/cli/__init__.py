"""What a person types: commands, tables, exit codes. Commands import what they need when they run."""
