"""What tuned prompts look like."""
