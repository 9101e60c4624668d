"""Instruction data that is made rather than found: by a policy, or out of conversations and texts.

No module here but `remote` knows the wire: a `Generator` is handed in.
"""
