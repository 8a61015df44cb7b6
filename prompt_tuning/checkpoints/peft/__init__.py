"""What Hugging Face PEFT tunes of a T5, read and written: a folder each.

`soft_prompts` are its prompt tuning, `methods` LoRA, IA3 and prefix tuning.
"""
