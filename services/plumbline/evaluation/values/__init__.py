"""Do replies follow a knowledge base of rules, and do they stop when rules are revoked?"""
