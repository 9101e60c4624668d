"""The quickstart's small, honest world: seeded text, people's judgements, and an oracle.

`generator.build_world` makes a raw corpus, demonstrations, prompts and rules from a
`config.WorldConfig`; `rule_set.build_rule_set` writes more rules over the same world;
`annotators.grade_pair` is the simulated panel that compares replies; `oracle.judge` says what a
reply does, independently of every reward model.
"""
