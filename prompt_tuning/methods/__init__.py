"""The methods that prompt tuning is compared with, on the same frozen T5."""
