"""Whole corpora, in shards: each is filtered by itself, copies are found across them, then merged.

    rows -> shard 0 .. n (rules, anonymization, sketches)    shard.py, any worker
         -> copies by groups of bands                        copies.py, any worker
         -> merge (which copy stays, report)                 merge.py

Shards follow the rows of the corpus, so who did what when changes nothing in the output.
"""
